"""The report's colours are those of every picture."""

from saccade.palette import LIGHT, PALETTE

__all__ = ["LIGHT", "PALETTE"]
