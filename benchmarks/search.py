"""Random against grid search at equal numbers of trials, on real images, with five seeds: best accuracy so far.

    python benchmarks/search.py [SOURCE] [--trials 9 16 25] [--seeds 5] [--epochs 4]

Both lay out learning rate and cutout in the same wide ranges; nothing is stopped, refined or repeated.
Prints the mean of the best validation accuracies and its standard error over the seeds, and the lead of random
search paired by seed; writes results/search.json.
"""

import argparse
import math
from pathlib import Path
from time import perf_counter

import numpy as np

from saccade.files import write_json
from saccade.recipe.search import Bench
from saccade.settings import TrainSettings
from saccade.study.search import HopelessError, hopeful
from saccade.study.space import Layout, Range, lay_out

SPACE = {"learning_rate": Range(1e-5, 1.0, log=True), "cutout": Range(0.0, 1.0)}


def accuracy(bench: Bench, settings: dict[str, float], seed: int, epochs: float) -> float:
    """Return the validation accuracy after one trial; 0 where the loss stopped being a number."""
    session = bench.session(settings, seed)
    try:
        for _ in hopeful(session, session.steps(epochs), exploded=math.inf):
            pass
    except HopelessError:
        return 0.0
    return bench.glance(session).losses(session)[1]


def spread(values: list[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return float(np.mean(values)), error


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", nargs="?", default="digits")
    parser.add_argument("--trials", type=int, nargs="+", default=[9, 16, 25])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--model", default="convnet")
    given = parser.parse_args()
    begun = perf_counter()
    base = TrainSettings(model=given.model, width=0.25, size=16, optimizer="adam", grow=False, epochs=given.epochs)
    bench = Bench.open(given.source, base)
    rows = []
    for trials in given.trials:
        best: dict[Layout, list[float]] = {"random": [], "grid": []}
        for seed in range(given.seeds):
            for layout, found in best.items():
                settings = lay_out(layout, SPACE, trials, seed)
                found.append(max(accuracy(bench, each, seed, given.epochs) for each in settings))
        leads = [a - b for a, b in zip(best["random"], best["grid"], strict=True)]
        told = {name: spread(values) for name, values in {**best, "lead": leads}.items()}
        rows.append({"trials": trials, "best": best})
        print(
            f"{trials:>3} trials",
            *(f"{name} {100 * m:.2f} ± {100 * e:.2f} %" for name, (m, e) in told.items()),
            sep="  ",
        )
    print(f"{perf_counter() - begun:.0f} s")
    write_json(Path(__file__).parent / "results" / "search.json", {"source": given.source, "rows": rows})


if __name__ == "__main__":
    main()
