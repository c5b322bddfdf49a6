"""Update rules, schedules, averages of weights, and the curvature of a loss."""

from saccade.optim.average import Average, Snapshots, decaying, evenly, recompute_statistics
from saccade.optim.lbfgs import LBFGS
from saccade.optim.objective import Objective
from saccade.optim.optimizers import DECOUPLED, DEFAULTS, Optimizer, build_optimizer, penalized, shrunk
from saccade.optim.penalties import decayed, penalty
from saccade.optim.schedules import SCHEDULES, Schedule, cycle, cycled, held, schedule

__all__ = [
    "DECOUPLED",
    "DEFAULTS",
    "LBFGS",
    "SCHEDULES",
    "Average",
    "Objective",
    "Optimizer",
    "Schedule",
    "Snapshots",
    "build_optimizer",
    "cycle",
    "cycled",
    "decayed",
    "decaying",
    "evenly",
    "held",
    "penalized",
    "penalty",
    "recompute_statistics",
    "schedule",
    "shrunk",
]
