"""`saccade check`: a source and a network asked everything that can be known before training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from saccade import report, study
from saccade.data import Parts
from saccade.device import resolve_device, use_threads
from saccade.events import Progress, emit, stage
from saccade.files import write_atomic
from saccade.graph.layers import check_layers
from saccade.interrupts import SIGNALS
from saccade.nn import zoo
from saccade.recipe import plan as planning
from saccade.recipe.material import discarded_on_refusal, gather
from saccade.recipe.network import start
from saccade.recipe.pictures import draw_inputs
from saccade.recipe.plan import Plan
from saccade.recipe.stages import with_weights
from saccade.settings import TrainSettings
from saccade.study import Check, RangeTest
from saccade.train.budget import Clock

BUDGET = 60.0
"""Seconds for all checks, where no budget is given."""
MOST_COMPARED = 1500
COMPARED_SIDE = 16


def check(
    source: str | Path, settings: TrainSettings, *, out: Path | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Ask of a source and the network that settings describe what can be known before training.

    Leaves a folder with checks.json and report.html, and returns checks.json's content: the `checks`, the
    learning-rate range test as `rates`, and the names of the checks `left_out` for lack of time. Raises
    InputError, before anything is written, where source, settings or `out` cannot be used.
    """
    settings = with_weights(settings)
    zoo.check_choices(settings)
    resolve_device(settings.device)
    use_threads(settings.threads)
    budget = settings.budget or BUDGET
    clock = Clock(budget) if clock is None else replace(clock, budget=budget)
    with gather(source, settings, out) as material, discarded_on_refusal(material, *SIGNALS):
        parts, plan = material.parts, Plan(material.run, clock, settings.seed)
        with stage("plan"):
            settings = planning.resolve(settings, parts, plan)
            write_atomic(material.run.settings, settings.to_yaml())
            session = start(parts.train, settings)
        with stage("check") as asking:
            emit(Progress(task="check", done=0, total=1, detail="data"))
            data = of_data(parts, settings.seed)
            frozen = [name for name, each in session.network.named_parameters() if not each.requires_grad]
            found = study.verdict(session, len(parts.classes), plan.left, declared=frozen)
            found = replace(found, checks=(*data, *found.checks))
            missing = f", {len(found.left_out)} left out for lack of time" if found.left_out else ""
            passed = sum(each.passed for each in found.checks)
            asking.outcome = f"{passed} of {len(found.checks)} passed{missing}"
        assert settings.size is not None
        told = {
            "schema": 1,
            "source": material.source,
            "model": settings.model,
            **found.plain(),
            "rates": of_rates(found.rates, session.highest_rate),
            "inputs": draw_inputs(material.run, parts.train, settings.size, settings.seed),
            "size": settings.size,
            "run": str(material.run.path),
            "seconds": round(clock.elapsed(), 2),
            "budget_seconds": budget,
        }
        material.run.write("checks", told)
        report.write_checks(material.run)
        return told


def check_file(path: Path, shapes: Sequence[Sequence[int]] = (), *, seed: int = 0) -> dict[str, Any]:
    """Check the gradients of the layers in a Python file; return the `checks`, and each tensor's as `gradients`.

    Raises ModelError where the file cannot be used.
    """
    with stage("check") as asking:
        found = check_layers(path, shapes, seed=seed)
        asked = [_layer_check(name, study.gradient_verdict(name, each)) for name, each in found.items()]
        asking.outcome = f"{sum(each.passed for each in asked)} of {len(asked)} passed"
    tensors = [
        {"layer": name, "tensor": each.name, "error": each.error if np.isfinite(each.error) else None,
         "verdict": each.verdict, "compared": each.compared, "kinks": each.kinks}
        for name, check in found.items()
        for each in check.tensors
    ]  # fmt: skip
    return {"schema": 1, "layers": str(path), "checks": [asdict(each) for each in asked], "gradients": tensors}


def of_data(parts: Parts, seed: int) -> list[Check]:
    """Return the checks of the training and validation images that need no network."""
    asked = [study.parts_apart(parts.train.images.hashes(), parts.validation.images.hashes())]
    # Places by name alone; of the test part nothing else is known here.
    places = {row[0]: place for place, row in enumerate(sorted(parts.rows()))}
    known = {
        places[key]: int(label)
        for part in (parts.train, parts.validation)
        for key, label in zip(part.images.keys, part.labels_N, strict=True)
    }
    rows = np.sort(np.random.default_rng(seed).permutation(len(parts.train))[:MOST_COMPARED])
    some = parts.train.select(rows)
    position_N = np.array([places[key] for key in some.images.keys])
    labels = study.labels_in_place(some.squares(COMPARED_SIDE), position_N, known, seed=seed)
    return [*asked, *([labels] if labels else [])]


def of_rates(rates: RangeTest | None, chosen: float) -> Mapping[str, Any] | None:
    """Return a range test and the rate chosen as plain values, the losses as rows of (rate, mean, lowest, highest)."""
    if rates is None:
        return None
    spans = study.span(rates.losses_TR)
    rows = [[float(rate), *each] for rate, each in zip(rates.rates_R, spans, strict=False)]
    spread = rates.spread if np.isfinite(rates.spread) else None
    read = {"chosen": chosen, "suggestion": rates.suggestion, "spread": spread, "limit": rates.limit}
    return {**read, "repetitions": len(rates.losses_TR), "losses": rows}


def _layer_check(name: str, check: Check | None) -> Check:
    undecided = "every number compared lies on a kink, where there is no gradient; give other inputs"
    return check or Check(name, True, "gradients as the numerical ones", undecided, "")
