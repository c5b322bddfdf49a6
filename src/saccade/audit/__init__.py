"""Audits: what is wrong or doubtful about labelled images."""

from saccade.audit.duplicates import duplicates as duplicates
