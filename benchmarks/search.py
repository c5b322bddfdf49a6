"""Random against grid search at equal numbers of trials, on real images.

    python benchmarks/search.py [SOURCE] [--model convnet] [--images 1500] [--trials 9 16 25] [--seeds 5] [--epochs 4]

Learning rate and cutout are laid out in the same wide ranges, at random and as grids; a seed is one search: its own
draws, weights and order of images. Every trial is trained once, to its end; what each search would have found after
how many trials follows from these. The test part stays sealed.
Writes results/NAME.json as it goes (a second start goes on from there) and draws docs/search.svg.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from _common import RESULTS, write

from saccade.errors import TrainingError
from saccade.recipe.network import start
from saccade.recipe.search import Bench
from saccade.settings import TrainSettings
from saccade.study.baselines import stratified_share
from saccade.study.space import Layout, Range, lay_out
from saccade.train import Pace

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from draw_search import draw

SPACE = {"learning_rate": Range(1e-5, 1.0, log=True), "cutout": Range(0.0, 1.0)}
Row = dict[str, Any]


def asked(trials: Sequence[int], seeds: int) -> Iterator[Row]:
    """Yield the trials of all searches: of random ones the largest, of which smaller ones are the beginning."""
    for seed in range(seeds):
        for layout, count in [("random", max(trials)), *(("grid", count) for count in trials)]:
            for order, settings in enumerate(lay_out(_layout(layout), SPACE, count, seed)):
                yield {"seed": seed, "layout": layout, "trials": count, "order": order, "settings": settings}


def measured(bench: Bench, row: Row, epochs: float) -> Row:
    """Train one trial to its end; return it with the accuracy it reached, 0 where its loss became no number."""
    session = bench.session(row["settings"], row["seed"])
    begun, accuracy = process_time(), 0.0
    with suppress(TrainingError):
        for _ in session.run(Pace.fixed(session.steps(epochs))):
            pass
        accuracy = bench.glance(session).losses(session)[1]
    return {**row, "accuracy": accuracy, "seconds": round(process_time() - begun, 3)}


def best_so_far(rows: Sequence[Row], layout: str, trials: int, seed: int) -> list[float]:
    """Return the best accuracy after each trial of one search; a grid's points come in an order of the seed's own."""
    mine = [row for row in rows if row["layout"] == layout and row["seed"] == seed]
    if layout == "grid":
        mine = [row for row in mine if row["trials"] == trials]
        mine = [mine[place] for place in np.random.default_rng(seed).permutation(len(mine))]
    accuracies = [row["accuracy"] for row in sorted(mine, key=lambda row: row["order"] if layout == "random" else 0)]
    return np.maximum.accumulate(accuracies[:trials]).tolist()


def compared(rows: Sequence[Row], trials: Sequence[int], seeds: int) -> list[Row]:
    """Return for each number of trials the best accuracies of both layouts by seed, and random's lead."""
    found = []
    for count in trials:
        best = {
            layout: [best_so_far(rows, layout, count, seed)[-1] for seed in range(seeds)]
            for layout in ("random", "grid")
        }
        leads = [a - b for a, b in zip(best["random"], best["grid"], strict=True)]
        found.append({"trials": count, **{name: spread(values) for name, values in {**best, "lead": leads}.items()}})
    return found


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and its standard error."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def opened(source: str, images: int, base: TrainSettings) -> Bench:
    """Return the bench of a source with at most so many training images, all classes alike."""
    bench = Bench.open(source, base)
    train = bench.parts.train
    few = stratified_share(train, images)
    return replace(bench, parts=replace(bench.parts, train=few), first=start(few, bench.base))


def known(name: str, told: Mapping[str, Any]) -> list[Row]:
    """Return the trials of an earlier start with the same numbers."""
    try:
        before = json.loads((RESULTS / f"{name}.json").read_text())
    except OSError:
        return []
    return list(before["rows"]) if all(before.get(key) == value for key, value in told.items()) else []


def _layout(name: str) -> Layout:
    return "grid" if name == "grid" else "random"


def main() -> None:
    """Run what is missing, tell what it comes to, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="digits")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--trials", type=int, nargs="+", default=[9, 16, 25])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--model", default="convnet")
    parser.add_argument("--norm", default="batch")
    parser.add_argument("--name", default="search", help="of the file of results; only this one is drawn")
    given = parser.parse_args()
    told = {name: getattr(given, name) for name in ("images", "trials", "seeds", "epochs", "model", "norm")}
    told["source"] = Path(given.source).name
    base = TrainSettings(
        model=given.model, width=0.25, size=16, batch_size=64, optimizer="adam", grow=False, flip=False,
        epochs=given.epochs, norm=given.norm,
    )  # fmt: skip
    rows = known(given.name, told)
    done = {(row["seed"], row["layout"], row["trials"], row["order"]) for row in rows}
    missing = [
        row
        for row in asked(given.trials, given.seeds)
        if (row["seed"], row["layout"], row["trials"], row["order"]) not in done
    ]
    bench = opened(given.source, given.images, base) if missing else None
    for number, row in enumerate(missing):
        assert bench is not None
        rows.append(measured(bench, row, given.epochs))
        if number % 10 == 0 or number == len(missing) - 1:
            write(given.name, {**told, "rows": rows})
            print(f"{number + 1}/{len(missing)}", flush=True)
    result = {
        "compared": compared(rows, given.trials, given.seeds),
        "curves": {
            layout: [best_so_far(rows, layout, max(given.trials), seed) for seed in range(given.seeds)]
            for layout in ("random", "grid")
        },
    }
    write(given.name, {**told, **result, "rows": rows})
    for each in result["compared"]:
        print(json.dumps(each))
    if given.name == "search":
        draw({**told, **result, "rows": rows})


if __name__ == "__main__":
    main()
