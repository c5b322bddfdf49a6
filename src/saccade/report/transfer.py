"""The report's section on transfer: what was measured, the lecture's table, the weights and their licence."""

from collections.abc import Mapping
from typing import Any

from saccade.report import charts
from saccade.words import number

CELLS = (
    ("top", "a linear classifier on top"),
    ("stages", "a linear classifier on several stages"),
    ("few", "fine-tune a few layers"),
    ("more", "fine-tune more layers"),
)
"""In the order of the lecture's table: few images, then many; of each, similar ones, then different ones."""
NOISE = 1.96


def transfer(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the section shows; None where no pretrained weights had a part in the run."""
    weights, advice = summary.get("weights"), summary.get("transfer")
    if weights is None:
        return None
    view = {"weights": _facts(weights), "forbidden": weights["commercial_use"] is False, "advice": advice}
    if advice is None:
        return {**view, "chart": None, "rows": []}
    cells = [
        {"name": name, "text": text, "advised": name == advice["cell"], "run": name == advice.get("run")}
        for name, text in CELLS
    ]
    return {**view, "chart": _chart(advice), "rows": [("few", cells[:2]), ("many", cells[2:])]}


def _chart(advice: Mapping[str, Any]) -> Any:
    """Draw the accuracy of linear classifiers on each stage's features, and on all of them."""
    measured = [(each["name"], each["accuracy"], each["error"]) for each in advice["stages"]]
    measured.append(("all stages together", advice["together"], advice["together_error"]))
    return charts.bars(
        [
            {"name": name, "accuracy": mean, "interval": _interval(mean, NOISE * error), "kind": "other"}
            for name, mean, error in measured
        ]
    )


def _interval(middle: float, width: float) -> list[float]:
    return [max(0.0, middle - width), min(1.0, middle + width)]


def _facts(weights: Mapping[str, Any]) -> dict[str, str]:
    allowed = {True: "allowed", False: "forbidden", None: "not known"}[weights["commercial_use"]]
    told = {"source": weights["source"] or "–", "licence": weights["licence"], "commercial use": allowed}
    if "network" not in weights:  # those of an ensemble's members
        return told
    return {
        "network": weights["network"],
        **told,
        "file": weights["file"],
        "trained on images of": f"{weights['size']} px, resized by {weights['interpolation']} interpolation",
        "mean of their colours": ", ".join(number(each) for each in weights["mean"]),
        "standard deviation": ", ".join(number(each) for each in weights["sd"]),
    }
