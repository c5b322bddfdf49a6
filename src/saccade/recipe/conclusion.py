"""The end of a run: what to do next, findings.json, summary.json, and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from saccade import metrics, report
from saccade.classifiers import Model
from saccade.data import Part
from saccade.events import stage
from saccade.recipe import plan as planning
from saccade.recipe import summary as summaries
from saccade.recipe.advice import Evidence, next_steps
from saccade.recipe.averages import Averaged
from saccade.recipe.candidates import Candidate, Judge
from saccade.recipe.material import Material
from saccade.recipe.pictures import draw_inputs
from saccade.recipe.plan import Plan
from saccade.recipe.rounds import Found
from saccade.recipe.summary import Diary
from saccade.run import Run
from saccade.study.compare import compare

REPORT_SECONDS = 2.0
"""Kept for choosing, and for drawing and writing the report."""


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, the chosen model, and summary.json's content."""

    run: Run
    model: Model
    summary: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What the stages of one command came to."""

    command: str
    chosen: Candidate
    candidates: Sequence[Candidate]
    judge: Judge
    baselines: Sequence[dict[str, Any]] = ()
    averaged: Averaged | None = None
    found: Found = field(default_factory=Found)
    test: dict[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else the summary is to say, by name."""

    @property
    def network(self) -> Candidate | None:
        """The best of the networks that were trained."""
        trained = [each for each in self.candidates if each.facts.get("steps")]
        return self.judge.best(trained) if trained else None


def conclude(outcome: Outcome, material: Material, plan: Plan, diary: Diary) -> Result:
    """Write findings.json, summary.json and the report; then the summary again, with the time all that took."""
    parts, run, network, model = material.parts, material.run, outcome.network, outcome.chosen.model
    validation = summaries.of_validation(parts, outcome.chosen.validation_NK)
    summary = {
        **summaries.of_software(),
        "command": outcome.command,
        **summaries.of_data(material, diary, outcome.test),
        "stages": diary.stages,
        "baselines": [*outcome.baselines],
        "checks": [*network.checks] if network else [],
        "left_out": [*network.left_out] if network else [],
        "network": network.facts if network else None,
        "candidates": [_row(each, outcome.judge, parts.validation) for each in outcome.candidates],
        "trials": [*outcome.found.trials],
        "ensemble": outcome.averaged.plain(outcome.chosen.name) if outcome.averaged else None,
        "chosen": outcome.chosen.name,
        "chosen_by": "macro F1" if outcome.judge.unbalanced else "accuracy",
        "validation": validation,
        "beside_simple": _beside_simple(outcome, parts.validation),
        **({"test": outcome.test} if outcome.test else {}),
        **outcome.more,
        "next": _next(outcome, material, plan, validation, diary),
        "reading": summaries.reading(_history(run, network)),
        "inputs": draw_inputs(run, parts.train, model.size, plan.seed),
        "warnings": diary.warnings(),
        "findings": summaries.told_findings(diary),
        "budget_seconds": plan.clock.budget,
        "run": str(run.path),
    }
    run.write("findings", summaries.findings_json(diary))
    run.report.unlink(missing_ok=True)  # of a run that was not finished, which with a summary would count as finished
    run.write("summary", {**summary, "seconds": round(plan.clock.elapsed(), 2)})
    with stage("report"):
        report.write(run)
    summary["seconds"] = round(plan.clock.elapsed(), 2)
    run.write("summary", summary)
    return Result(run, model, summary)


def _history(run: Run, network: Candidate | None) -> list[dict[str, Any]]:
    """Return the history's lines of one network."""
    return [line for line in run.history() if network and line["network"] == network.facts["name"]]


def _beside_simple(outcome: Outcome, validation: Part) -> dict[str, Any] | None:
    """Return how the chosen classifier's answers to the validation images compare with the best simple one's."""
    names = {row["name"] for row in outcome.baselines}
    simple = next((each for each in outcome.candidates if each.name in names), None)
    if simple is None or simple.name == outcome.chosen.name:
        return None
    mine_N, its_N = (each.validation_NK.argmax(1) == validation.labels_N for each in (outcome.chosen, simple))
    return {"name": simple.name, **asdict(compare(mine_N, its_N, validation.groups_N))}


def _row(candidate: Candidate, judge: Judge, validation: Part) -> dict[str, Any]:
    right_N = candidate.validation_NK.argmax(1) == validation.labels_N
    return {
        "name": candidate.name,
        "validation_accuracy": judge.accuracy(candidate),
        "interval": list(metrics.accuracy_interval(right_N, validation.groups_N)),
        "score": judge(candidate),
        "seconds": candidate.facts.get("seconds"),
    }


def _next(outcome: Outcome, material: Material, plan: Plan, validation: dict[str, Any], diary: Diary) -> dict[str, Any]:
    parts, network = material.parts, outcome.network
    confusion = metrics.confusion_KK(outcome.chosen.validation_NK.argmax(1), outcome.judge.labels_N, len(parts.classes))
    found = metrics.per_class(confusion)
    evidence = Evidence(
        chosen=outcome.chosen.name,
        classes=parts.classes,
        counts=parts.train.images.class_counts().tolist(),
        figures=outcome.test or {**validation, "confusion": confusion.tolist()},
        recalls=[row.recall if row.images else None for row in found],
        held=[row.images for row in found],
        curve=outcome.found.curve,
        network=network.facts if network else None,
        trials=_fractions(outcome, network),
        budget=plan.clock.budget,
        seconds=plan.clock.elapsed(),
        native=planning.native_side(parts.train),
        unbalanced=outcome.judge.unbalanced,
        findings=diary.findings,
    )
    told = next_steps(evidence)
    return {**told, "pairs": (outcome.test or told)["pairs"]}


def _fractions(outcome: Outcome, network: Candidate | None) -> list[dict[str, float]]:
    """Return what the network reached with its defaults at a fraction of its training."""
    return [
        {"share": trial["steps"] / network.facts["steps"], "accuracy": trial["accuracy"]}
        for trial in outcome.found.trials
        if network and trial["network"] == network.facts["name"] and not trial["settings"] and not trial["stopped"]
    ]
