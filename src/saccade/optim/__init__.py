"""Update rules, schedules, averages of weights, and the curvature of a loss."""

from saccade.optim.average import Average, Snapshots, decaying, evenly, recompute_statistics
from saccade.optim.curvature import (
    Solution,
    Spectrum,
    conjugate_gradients,
    exact_spectrum,
    krylov_spectrum,
    mean_spectrum,
    newton_step,
    noise_scale,
)
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
    "Solution",
    "Spectrum",
    "build_optimizer",
    "conjugate_gradients",
    "cycle",
    "cycled",
    "decayed",
    "decaying",
    "evenly",
    "exact_spectrum",
    "held",
    "krylov_spectrum",
    "mean_spectrum",
    "newton_step",
    "noise_scale",
    "penalized",
    "penalty",
    "recompute_statistics",
    "schedule",
    "shrunk",
]
