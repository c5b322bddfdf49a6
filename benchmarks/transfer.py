"""The four cells of the transfer table on real photos: each run with few images and with many, beside the advice.

    python benchmarks/transfer.py SOURCE WEIGHTS [--images 10 50 0] [--seeds 2] [--size 96]

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
from typing import Any

import numpy as np
from _common import RESULTS, write

from saccade import audit, data, study
from saccade.data import Parts
from saccade.nn import pretrained
from saccade.recipe import cells
from saccade.settings import DataSettings, TransferSettings
from saccade.study.adviser import CELLS
from saccade.study.compare import compare


def fewer(parts: Parts, a_class: int, seed: int) -> Parts:
    """Return the parts with so many training images a class, drawn by a seed; 0 for all."""
    if not a_class:
        return parts
    draw, labels_N = np.random.default_rng(seed), parts.train.labels_N
    chosen = [draw.permutation(np.flatnonzero(labels_N == k))[:a_class] for k in range(len(parts.classes))]
    return Parts(parts.train.select(np.sort(np.concatenate(chosen))), parts.validation, parts.test)


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
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--cells", nargs="+", default=list(CELLS))
    parser.add_argument("--name", default="transfer")
    given = parser.parse_args()
    weights = pretrained.find(given.weights)
    assert weights is not None
    found = data.integrity(data.open(given.source, DataSettings()))
    whole = data.split(found, audit.duplicates(found), DataSettings())
    flip = study.mirror_symmetric(whole).symmetric
    told = {"source": Path(given.source).name, "size": given.size, "flip": flip, "validation": len(whole.validation)}
    rows = begun(given.name, told)
    for a_class in given.images:
        for seed in range(given.seeds if a_class else 1):
            row = next((row for row in rows if (row["a_class"], row["seed"]) == (a_class, seed)), None)
            if row is not None and not set(given.cells) - set(row["right"]):
                continue
            parts = fewer(whole, a_class, seed)
            settings = TransferSettings(pretrained=given.weights, size=given.size, seed=seed)
            ground = cells.prepared(parts, weights, settings, flip=flip)
            if row is None:
                advice = {"advised": ground.advice.cell, "why": ground.advice.why}
                row = {"images": len(parts.train), "a_class": a_class, "seed": seed, **advice, "right": {}}
                rows.append(row)
            for cell in set(given.cells) - set(row["right"]):
                _, said_NK = cells.plainly(ground, cell)
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
