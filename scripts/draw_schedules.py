"""Draw every learning-rate schedule, after a warm-up where it has none of its own, into docs/schedules.svg."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from saccade.optim import SCHEDULES, schedule
from saccade.palette import LIGHT

WARMUP = 0.1


def main() -> None:
    """Draw."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "schedules", "font.family": "sans-serif"})
    progress = np.linspace(0, 1, 401)
    figure = Figure(figsize=(9, 4.2), facecolor=LIGHT["card"], layout="constrained")
    for place, name in enumerate(SCHEDULES):
        axes = figure.add_subplot(2, 4, place + 1, facecolor="none")
        factor = schedule(name, 0.0 if name == "one_cycle" else WARMUP)
        axes.plot(100 * progress, [factor(float(p)) for p in progress], color=LIGHT["right"], linewidth=2)
        axes.set_title(name, fontsize=11, color=LIGHT["ink"], loc="left")
        axes.set(xlim=(0, 100), ylim=(0, 1.06), xticks=[0, 50, 100], yticks=[0, 0.5, 1])
        axes.tick_params(length=0, labelsize=9, labelcolor=LIGHT["quiet"])
        axes.xaxis.set_major_formatter("{x:.0f} %")
        axes.grid(color=LIGHT["line"], linewidth=1)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.savefig(Path(__file__).parents[1] / "docs" / "schedules.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
