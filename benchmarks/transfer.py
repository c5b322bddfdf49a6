"""The four cells of the transfer table on real photos: each run with few images and with many, beside the advice.

    python benchmarks/transfer.py SOURCE WEIGHTS [--images 10 50 0] [--seeds 2] [--size 96] [--classes 5]

SOURCE is a folder or archive of photos, WEIGHTS what `saccade transfer --from` takes; --images are training images
a class, 0 all of them. Accuracies are on the source's validation images; the test part stays sealed. Epochs are
fixed, so that the figures do not depend on the load of the machine. A second start goes on after the first.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any

import numpy as np
from _common import RESULTS, write
from numpy.typing import NDArray

from saccade import audit, data, study
from saccade.data import Part, Parts
from saccade.nn import pretrained
from saccade.recipe import cells
from saccade.recipe.finishing import calibrated_model
from saccade.recipe.network import start
from saccade.settings import DataSettings, TransferSettings
from saccade.study.adviser import CELLS
from saccade.study.compare import compare
from saccade.train.budget import Pace


def fewer(part: Part, classes: int | None, a_class: int | None, seed: int) -> Part:
    """Return a part with so many images of each of its first classes, drawn by a seed; all where that is None."""
    draw = np.random.default_rng(seed)
    chosen = [
        draw.permutation(np.flatnonzero(part.labels_N == k))[:a_class] for k in range(len(part.classes))[:classes]
    ]
    return part.select(np.sort(np.concatenate(chosen)))


def plainly(ground: cells.Ground, cell: str) -> NDArray[np.float64]:
    """Run a cell without a run's folder; return its probabilities of the validation images (N, K)."""
    probe = cells.linear(ground, cell)
    if cell not in cells.LAYERS:
        return np.exp(study.log_probabilities(probe.forward, probe.held_VND))
    session = start(ground.parts.train, cells.tuning(ground, cell), begin=probe.forward.network)
    for _ in session.run(Pace.fixed(session.steps(ground.epochs))):
        pass
    return calibrated_model(session, ground.parts.validation)[1]


def begun(name: str, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an earlier start with the same numbers."""
    try:
        before = json.loads((RESULTS / f"{name}.json").read_text())
    except OSError:
        return []
    return list(before["rows"]) if all(before.get(key) == value for key, value in told.items()) else []


def judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's accuracies, the best cell, and how far it is above the advised one on the same images."""
    right_CN = {cell: np.array([*map(int, each)]) == 1 for cell, each in row["right"].items()}
    accuracies = {cell: float(right_N.mean()) for cell, right_N in right_CN.items()}
    best = max(accuracies, key=lambda cell: accuracies[cell])
    above = asdict(compare(right_CN[best], right_CN[row["advised"]])) if row["advised"] in right_CN else {}
    return {"accuracies": accuracies, "best": best, "best_above_advised": above}


def main() -> None:
    """Run every cell with every number of images and seed that is missing, writing results/NAME.json as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("weights")
    parser.add_argument("--images", type=int, nargs="+", default=[10, 50, 0])
    parser.add_argument("--classes", type=int, help="of the source, the first by name; all without it")
    parser.add_argument("--held", type=int, help="validation images a class at the most")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--cells", nargs="+", default=list(CELLS))
    parser.add_argument("--name", default="transfer")
    given = parser.parse_args()
    weights = pretrained.find(given.weights)
    assert weights is not None
    found = data.integrity(data.open(given.source, DataSettings()))
    whole = data.split(found, audit.duplicates(found), DataSettings())
    held = fewer(whole.validation, given.classes, given.held, 0)
    flip = study.mirror_symmetric(whole).symmetric
    told = {"source": Path(given.source).name, "size": given.size, "flip": flip, "validation": len(held)}
    told |= {"classes": given.classes or len(whole.classes)}
    rows = begun(given.name, told)
    for a_class in given.images:
        for seed in range(given.seeds if a_class else 1):
            row = next((row for row in rows if (row["a_class"], row["seed"]) == (a_class, seed)), None)
            if row is not None and not set(given.cells) - set(row["right"]):
                continue
            parts = Parts(fewer(whole.train, given.classes, a_class or None, seed), held, whole.test)
            settings = TransferSettings(pretrained=given.weights, size=given.size, seed=seed)
            ground = cells.prepared(parts, weights, settings, flip=flip)
            if row is None:
                advice = ground.advice.plain()
                probes = {each["name"]: each["accuracy"] for each in advice["stages"]}
                row = {"images": len(parts.train), "a_class": a_class, "seed": seed, "advised": advice["cell"]}
                row |= {name: advice[name] for name in ("why", "together", "gain", "gain_error")}
                row |= {"probes": probes, "seconds": {}, "right": {}}
                rows.append(row)
            for cell in [cell for cell in given.cells if cell not in row["right"]]:
                begun_at = perf_counter()
                said_NK = plainly(ground, cell)
                row["seconds"][cell] = round(perf_counter() - begun_at, 1)
                right_N = said_NK.argmax(1) == parts.validation.labels_N
                row["right"][cell] = "".join(str(int(right)) for right in right_N)
                row |= judged(row)
                print(a_class, seed, row["advised"], row["accuracies"], flush=True)
                write(given.name, {**told, "rows": rows, "means": means(rows)})


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each number of images, the mean accuracy of each cell and the spread over seeds."""
    table = []
    for a_class in dict.fromkeys(row["a_class"] for row in rows):
        own = [row for row in rows if row["a_class"] == a_class]
        by_cell = {cell: [row["accuracies"][cell] for row in own if cell in row["right"]] for cell in CELLS}
        spreads = {
            cell: {"mean": mean(each), "sd": stdev(each) if len(each) > 1 else None}
            for cell, each in by_cell.items()
            if each
        }
        table.append({"a_class": a_class, "advised": [row["advised"] for row in own], "cells": spreads})
    return table


if __name__ == "__main__":
    main()
