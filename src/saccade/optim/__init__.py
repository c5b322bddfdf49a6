"""Update rules and schedules."""

from saccade.optim.optimizers import DEFAULTS, Optimizer, build_optimizer
from saccade.optim.schedules import SCHEDULES, schedule

__all__ = ["DEFAULTS", "SCHEDULES", "Optimizer", "build_optimizer", "schedule"]
