"""Update rules, schedules, averages of weights, and the curvature of a loss."""

from saccade.optim.average import Average
from saccade.optim.lbfgs import LBFGS
from saccade.optim.objective import Objective
from saccade.optim.optimizers import DEFAULTS, Optimizer, build_optimizer
from saccade.optim.penalties import penalized, penalty
from saccade.optim.schedules import SCHEDULES, Schedule, schedule

__all__ = [
    "DEFAULTS",
    "LBFGS",
    "SCHEDULES",
    "Average",
    "Objective",
    "Optimizer",
    "Schedule",
    "build_optimizer",
    "penalized",
    "penalty",
    "schedule",
]
