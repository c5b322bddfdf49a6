"""Measure HOG against scikit-image and the codebook of visual words against scikit-learn's k-means, on real images.

    python benchmarks/features.py ../shared/data/cifar10-jpeg.zip

prints one table and writes it, with the machine, to benchmarks/results/features.json.
"""

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from _common import write
from numpy.typing import NDArray
from skimage.feature import hog
from sklearn.cluster import KMeans

from saccade import data
from saccade.features import HOG, ColourHistogram, VisualWords, kmeans

SETTINGS = {"orientations": 9, "cell": 8, "block": 3}
THEIRS = 1_000  # images scikit-image is timed on: it takes each by itself


def seconds(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the best of the times in seconds, and what the work returned."""
    best, found = np.inf, None
    for _ in range(repeats):
        begun = perf_counter()
        found = work()
        best = min(best, perf_counter() - begun)
    return best, found


def gradients(x_NHWC: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Time HOG at scikit-image's own settings, and say how far the two are from each other."""

    def theirs() -> NDArray[np.float64]:
        n, c, b = SETTINGS.values()
        return np.array([hog(x, n, (c, c), (b, b), channel_axis=-1) for x in x_NHWC[:THEIRS]])

    features = HOG(**SETTINGS).fit(x_NHWC[:1])
    own, ours_ND = seconds(lambda: features.transform(x_NHWC))
    their, theirs_ND = seconds(theirs, 1)
    apart = float(np.abs(ours_ND[:THEIRS] - theirs_ND).max())
    rates = len(x_NHWC) / own, THEIRS / their
    rows = [{"work": "HOG", "library": "saccade", "images_per_second": rates[0], "largest_difference": apart}]
    return [
        *rows,
        {"work": "HOG", "library": "scikit-image", "images_per_second": rates[1], "ratio": rates[0] / rates[1]},
    ]


def codebook(x_NHWC: NDArray[np.uint8], words: int, rows: int) -> list[dict[str, Any]]:
    """Time k-means of whitened patches, both from one start, and compare the inertia."""
    features = VisualWords(words=2).fit(x_NHWC[:2000])
    x = features._descriptors(x_NHWC[:: max(1, len(x_NHWC) * 100 // rows)]).flatten(0, 2).numpy()
    x = x[np.random.default_rng(0).permutation(len(x))[:rows]]
    x = (x - features.mean_) @ features.whitening_
    told = []
    own, ours = seconds(lambda: kmeans(x, words, seed=0), 1)
    their, theirs = seconds(lambda: KMeans(words, n_init=1, random_state=0).fit(x), 1)
    shape = {"work": "k-means", "rows": len(x), "features": x.shape[1], "words": words}
    told.append({**shape, "library": "saccade", "seconds": own, "inertia": ours.inertia})
    inertia = float(theirs.inertia_)
    ratios = {"ratio": their / own, "inertia_ours_over_theirs": ours.inertia / inertia}
    told.append({**shape, "library": "scikit-learn", "seconds": their, "inertia": inertia, **ratios})
    return told


def throughput(x_NHWC: NDArray[np.uint8], words: int) -> list[dict[str, Any]]:
    """Time every other kind of features."""
    kinds = {
        "hue histogram": ColourHistogram(),
        "RGB histogram": ColourHistogram("rgb", bins=4),
        **{f"{how} words": VisualWords(words=words, assignment=how) for how in ("hard", "soft", "triangle")},
    }
    rows = []
    for name, kind in kinds.items():
        some = x_NHWC[:1000]
        kind.fit(x_NHWC[:500])
        rate = len(some) / seconds(lambda kind=kind, some=some: kind.transform(some), 1)[0]
        rows.append({"work": name, "library": "saccade", "images_per_second": rate})
    return rows


def main() -> None:
    """Run every comparison and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--words", type=int, default=400)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    images = data.integrity(data.open(options.source))
    keys = [key for key, part in zip(images.keys, images.given_parts, strict=True) if part != "test"]
    x_NHWC = images.pixels.squares(keys[:: max(1, len(keys) // options.images)][: options.images], options.side)
    load = psutil.getloadavg()[0]
    rows = [*gradients(x_NHWC), *codebook(x_NHWC, options.words, options.rows), *throughput(x_NHWC, options.words)]
    for row in rows:
        told = (f"{name} {value:,.5g}" for name, value in row.items() if isinstance(value, int | float))
        print(f"{row['work']:14}{row['library']:14}{'  '.join(told)}")
    write(
        "features", {"source": images.name, "images": len(x_NHWC), "side": options.side, "load": load, "results": rows}
    )


if __name__ == "__main__":
    main()
