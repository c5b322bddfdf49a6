"""The report's colours are those of every picture."""

from saccade.palette import LIGHT as LIGHT
from saccade.palette import PALETTE as PALETTE
