"""Audits: what is wrong or doubtful about labelled images."""

from saccade.audit.duplicates import Alike as Alike
from saccade.audit.duplicates import duplicates as duplicates
from saccade.audit.duplicates import near_duplicates as near_duplicates
from saccade.audit.quality import balance as balance
from saccade.audit.quality import quality as quality
from saccade.audit.shift import shift as shift
