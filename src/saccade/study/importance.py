"""How much each quantity of a search explains of the accuracy (functional ANOVA)."""

from collections.abc import Sequence
from typing import Any

import optuna

from saccade.study.board import Row, distribution
from saccade.study.space import Space

FEWEST = 5
"""Trials, below which a forest of trees has nothing to say."""


def importance(rows: Sequence[Row], space: Space) -> dict[str, float]:
    """Return each quantity's share of the variance of the accuracy over trials, largest first (Hutter et al., 2014).

    Trials that were stopped count with the accuracy last seen, none as 0. Empty where they are too few or all alike.
    """
    told = [(row.job["settings"], _last(row)) for row in rows if row.ended and row.job["settings"]]
    if len(told) < FEWEST or len({value for _, value in told}) < 2:
        return {}
    distributions = {name: distribution(values) for name, values in space.items()}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for settings, value in told:
        params: dict[str, Any] = {name: settings[name] for name in space}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def _last(row: Row) -> float:
    return float(row.result["accuracy"]) if row.state == "done" else float(row.seen.get(max(row.seen, default=0), 0.0))
