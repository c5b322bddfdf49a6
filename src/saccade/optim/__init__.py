"""Update rules and schedules."""

from saccade.optim.optimizers import DEFAULTS, Optimizer, build_optimizer
from saccade.optim.schedules import SCHEDULES, Schedule, schedule

__all__ = ["DEFAULTS", "SCHEDULES", "Optimizer", "Schedule", "build_optimizer", "schedule"]
