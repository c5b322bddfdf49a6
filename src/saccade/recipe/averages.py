"""Averages of classifiers: a fit's candidates, the snapshots of one training, or the models of several runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from saccade import study
from saccade.classifiers import Member, Model
from saccade.data import Part
from saccade.recipe.candidates import Candidate
from saccade.recipe.licences import together
from saccade.study.ensemble import Ensemble


@dataclass(frozen=True)
class Averaged:
    """The average of several candidates as a candidate, and what it changed on the validation images."""

    candidate: Candidate
    ensemble: Ensemble
    names: tuple[str, ...]

    def weights(self) -> dict[str, float]:
        """Return the weights of those that are in the average, by name."""
        pairs = zip(self.names, self.ensemble.weights, strict=True)
        return {name: round(weight, 2) for name, weight in pairs if weight}

    def plain(self, chosen: str) -> dict[str, Any]:
        """Return what the summary says of it: each member's figures and weight, what averaging gained, if it was kept.

        `chosen` is the name of the classifier that predicts: where classes are unbalanced it may be another one still.
        """
        found = asdict(self.ensemble)
        rows = zip(self.names, found.pop("weights"), found.pop("accuracies"), found.pop("losses"), strict=True)
        passed_over = self.ensemble.accepted and chosen != self.candidate.name
        members = [{"name": name, "weight": w, "accuracy": a, "log_loss": loss} for name, w, a, loss in rows]
        return {
            **found,
            "interval": list(found["interval"]),
            "standard_error": found["standard_error"] if isfinite(found["standard_error"]) else None,
            "members": members,
            "best": self.names[self.ensemble.best],
            "best_accuracy": self.ensemble.best_accuracy,
            "accepted": self.ensemble.accepted and chosen == self.candidate.name,
            "why": f"{self.ensemble.why}; {chosen} is better still" if passed_over else self.ensemble.why,
        }


def averaged(candidates: Sequence[Candidate], validation: Part, names: Sequence[str]) -> Averaged:
    """Return the average of candidates that fits the labels of the validation part best.

    Of its members the best stands first. `names` tell the candidates apart in the summary, and members in the model.
    A candidate that is an average itself gives its members.
    """
    found = study.ensemble([each.validation_NK for each in candidates], validation.labels_N, validation.groups_N)
    chosen = [place for place, weight in enumerate(found.weights) if weight]
    chosen.sort(key=lambda place: place != found.best)
    members = tuple(
        member for place in chosen for member in _members(candidates[place], names[place], found.weights[place])
    )
    weights = together([candidates[place].model.weights for place in chosen])
    model = replace(candidates[chosen[0]].model, members=members, weights=weights)
    validation_NK = np.sum([found.weights[place] * candidates[place].validation_NK for place in chosen], axis=0)
    facts = {"members": [names[place] for place in chosen], "weights": [found.weights[place] for place in chosen]}
    return Averaged(Candidate(model, validation_NK, facts), found, tuple(names))


def renamed(model: Model, name: str) -> Model:
    """Return a model whose members bear `name` too, unless it is called so already: several are then told apart."""
    apart = "" if name == model.name else f" ({name})"
    return replace(model, members=tuple(replace(each, name=f"{each.name}{apart}") for each in model.members))


def _members(candidate: Candidate, name: str, weight: float) -> list[Member]:
    """Return a candidate's members, who share its weight as they share its say, named so that they are told apart."""
    members = renamed(candidate.model, name).members
    total = sum(member.weight for member in members)
    return [replace(member, weight=weight * member.weight / total) for member in members]
