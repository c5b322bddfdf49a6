"""The four cells of the transfer table on real photos: each run with few images and with many, beside the advice.

    python benchmarks/transfer.py SOURCE WEIGHTS [--images 10 50 0] [--seeds 2] [--size 96]

SOURCE is a folder or archive of photos, WEIGHTS what `saccade transfer --from` takes; --images are training images
a class, 0 all of them. Accuracies are on the source's validation images; the test part stays sealed. Epochs are
fixed, so that the figures do not depend on the load of the machine.
"""

import argparse
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

import numpy as np
from _common import write

from saccade import audit, data
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


def main() -> None:
    """Run every cell with every number of images and seed, and write results/transfer.json."""
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
    groups_N = audit.duplicates(found)
    rows: list[dict[str, Any]] = []
    for a_class in given.images:
        for seed in range(given.seeds if a_class else 1):
            settings = TransferSettings(pretrained=given.weights, size=given.size, seed=seed)
            parts = fewer(data.split(found, groups_N, DataSettings()), a_class, seed)
            ground = cells.prepared(parts, weights, settings, flip=True)
            advice = ground.advice
            row: dict[str, Any] = {"images": len(parts.train), "a_class": a_class, "seed": seed, "advised": advice.cell}
            right_CN = {}
            for cell in given.cells:
                _, said_NK = cells.plainly(ground, cell)
                right_CN[cell] = said_NK.argmax(1) == parts.validation.labels_N
                row[cell] = float(right_CN[cell].mean())
            best = max(right_CN, key=lambda cell: float(right_CN[cell].mean()))
            paired = {} if advice.cell not in right_CN else asdict(compare(right_CN[best], right_CN[advice.cell]))
            rows.append({**row, "best": best, "best_above_advised": paired, "why": advice.why})
            print(rows[-1], flush=True)
    write(given.name, {"size": given.size, "validation": len(parts.validation), "rows": rows, "means": means(rows)})


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each number of images, the mean accuracy of each cell and the spread over seeds."""
    told = []
    for a_class in dict.fromkeys(row["a_class"] for row in rows):
        own = [row for row in rows if row["a_class"] == a_class]
        cells_told = {
            cell: {"mean": mean(found), "sd": stdev(found) if len(found) > 1 else None}
            for cell in CELLS
            if len(found := [row[cell] for row in own if cell in row]) > 0
        }
        told.append({"a_class": a_class, "advised": [row["advised"] for row in own], "cells": cells_told})
    return told


if __name__ == "__main__":
    main()
