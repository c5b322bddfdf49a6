"""Draw random against grid search, from benchmarks/results/search.json, into docs/search.svg: the notes' picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saccade.palette import LIGHT

ROOT = Path(__file__).parents[1]
KINDS = {"grid": "wrong", "random": "right"}


def draw(told: Mapping[str, Any], place: Path = ROOT / "docs" / "search.svg") -> None:
    """Draw where the trials of one seed lay, how good they were, and the best so far over all seeds."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "search", "font.family": "sans-serif"})
    figure = Figure(figsize=(11, 4), facecolor=LIGHT["card"], layout="constrained")
    *planes, curves = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
    for axes, layout in zip(planes, KINDS, strict=True):
        _plane(axes, told, layout)
    _curves(curves, told)
    figure.savefig(place, metadata={"Date": None})


def _plane(axes: Axes, told: Mapping[str, Any], layout: str) -> None:
    """Draw the trials of the first seed by their two settings, larger and darker the better they were."""
    most = max(told["trials"])
    rows = [row for row in told["rows"] if (row["layout"], row["seed"], row["trials"]) == (layout, 0, most)]
    best = max(row["accuracy"] for row in told["rows"] if row["seed"] == 0)
    for row in rows:
        x, y = row["settings"]["learning_rate"], row["settings"]["cutout"]
        share = row["accuracy"] / best
        axes.plot(x, y, "o", color=LIGHT[KINDS[layout]], markersize=3 + 9 * share**3, alpha=0.25 + 0.7 * share**3,
                  markeredgewidth=0)  # fmt: skip
        axes.plot([x, x], [-0.1, -0.06], color=LIGHT["ink"], linewidth=1)
    distinct = len({row["settings"]["learning_rate"] for row in rows})
    axes.set_title(f"{layout}: {most} trials, {distinct} learning rates", fontsize=11, color=LIGHT["ink"], loc="left")
    axes.set(xscale="log", xlim=(7e-6, 1.4), ylim=(-0.12, 1.04), xlabel="learning rate", yticks=[0, 0.5, 1])
    if layout == "grid":
        axes.set_ylabel("cutout", color=LIGHT["quiet"])
    _plain(axes)


def _curves(axes: Axes, told: Mapping[str, Any]) -> None:
    """Draw the mean of the best accuracy so far, and a band of one standard error over the seeds."""
    for layout, colour in KINDS.items():
        best_SN = 100 * np.array(told["curves"][layout])
        trials_N = np.arange(1, best_SN.shape[1] + 1)
        mean_N, error_N = best_SN.mean(0), best_SN.std(0, ddof=1) / np.sqrt(len(best_SN))
        axes.fill_between(trials_N, mean_N - error_N, mean_N + error_N, color=LIGHT[colour], alpha=0.2, linewidth=0)
        axes.plot(trials_N, mean_N, color=LIGHT[colour], linewidth=2, label=layout)
    axes.set_title(f"best so far, {told['seeds']} seeds ± standard error", fontsize=11, color=LIGHT["ink"], loc="left")
    axes.set(xlabel="trials", xlim=(1, max(told["trials"])))
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.legend(frameon=False, labelcolor=LIGHT["ink"], loc="lower right")
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(which="both", length=0, labelsize=9, labelcolor=LIGHT["quiet"])
    axes.xaxis.label.set_color(LIGHT["quiet"])
    axes.grid(color=LIGHT["line"], linewidth=1)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def main() -> None:
    """Draw."""
    draw(json.loads((ROOT / "benchmarks" / "results" / "search.json").read_text()))


if __name__ == "__main__":
    main()
