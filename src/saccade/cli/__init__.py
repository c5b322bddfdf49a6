"""The command line: parse, call, print."""

from saccade.cli.app import main as main
from saccade.cli.app import run as run
