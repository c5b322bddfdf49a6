"""A check: one question asked before training, and its answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One question asked before training: what was expected, what was measured, what to do if it failed."""

    name: str
    passed: bool
    expected: str
    measured: str
    advice: str
