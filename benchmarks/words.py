"""Measure how far a linear softmax gets on edges, colours and more and more visual words, and what that costs.

    python benchmarks/words.py ../shared/data/cifar10-jpeg.zip --words 400,1600

One in ten of the images that may be looked at is held out; the test part is not read. Prints a row for each number
of words and writes all, with the machine, to benchmarks/results/words.json.
"""

import argparse
import resource
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from _common import write
from numpy.typing import NDArray

from saccade import data
from saccade.classifiers import LinearClassifier, Optimum
from saccade.features import Stacked, VisualWords, handmade

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def measured(train: Labelled, held: Labelled, words: int, strengths: Sequence[float], mirrored: bool) -> dict[str, Any]:
    """Return accuracies on the images held out for each strength of the penalty, times in seconds and peak memory."""
    begun = perf_counter()
    features = Stacked(handmade(train[0].shape[1], words), mirrored)
    x_ND = features.fit_transform(train[0])
    learnt = perf_counter()
    held_ND = features.transform(held[0])
    taken = perf_counter()
    models = LinearClassifier(solver=Optimum(tolerance=1e-4)).fit_path(x_ND, train[1], strengths)
    accuracies = [float((model.predict(held_ND) == held[1]).mean()) for model in models]
    places = (train[0].shape[1] - VisualWords().patch + 1) ** 2
    views = 2 if mirrored else 1
    rate = 2e-9 * views * places * words * VisualWords().patch ** 2 * 3 * len(held_ND) / (taken - learnt)
    return {
        "words": words,
        "mirrored": mirrored,
        "features": x_ND.shape[1],
        "accuracy": max(accuracies),
        "strengths": dict(zip(map(str, strengths), accuracies, strict=True)),
        "steps": [model.n_iter_ for model in models],
        "seconds_to_learn_and_take": learnt - begun,
        "images_per_second": len(held_ND) / (taken - learnt),
        "gflops": rate,
        "seconds_of_linear": perf_counter() - taken,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Run every number of words and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--words", default="400,1600")
    parser.add_argument("--strengths", default="0.003,0.001", help="of the penalty, from the strongest")
    parser.add_argument("--mirrored", action="store_true", help="take the features of mirror images too")
    options = parser.parse_args()
    strengths = tuple(map(float, options.strengths.split(",")))
    images = data.integrity(data.open(options.source))
    may = np.flatnonzero([part != "test" for part in images.given_parts])
    chosen = np.random.default_rng(0).permutation(may)[: options.images]
    x_NHWC = images.pixels.squares([images.keys[place] for place in chosen], options.side)
    y_N = images.labels_N[chosen]
    out = len(chosen) // 10
    load, rows = psutil.getloadavg()[0], []
    for words in map(int, options.words.split(",")):
        rows.append(measured((x_NHWC[out:], y_N[out:]), (x_NHWC[:out], y_N[:out]), words, strengths, options.mirrored))
        print(rows[-1], flush=True)
    write("words", {"source": images.name, "images": len(chosen), "side": options.side, "load": load, "results": rows})


if __name__ == "__main__":
    main()
