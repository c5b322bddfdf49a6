"""Measure exact nearest neighbours on pixels against scikit-learn's brute force and FAISS's flat index.

    python benchmarks/neighbors.py ../shared/data/cifar10-jpeg.zip --queries 1000 10000

prints one table and writes it, with the machine, to benchmarks/results/neighbors.json. A search that 100
queries say would take longer than `--cap` is not run: its time is the one expected, and marked so.
"""

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import _common
import numpy as np
import psutil
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from saccade import data
from saccade.classifiers import KNearestNeighbors
from saccade.classifiers.kernels import Metric, kernel
from saccade.device import cores

K, PROBE, REPEATS = 15, 100, 3
Bytes = NDArray[np.uint8]
Search = Callable[[Bytes], NDArray[np.int64]]


def ours(x_ND: Bytes, metric: Metric) -> Search:
    """Prepare our search; bytes stay bytes."""
    model = KNearestNeighbors(k=K, metric=metric).fit(x_ND, np.arange(len(x_ND)) % 10)
    return lambda q_QD: model.kneighbors(q_QD)[1]


def scikit_learn(x_ND: Bytes, metric: Metric) -> Search:
    """Prepare scikit-learn's brute force on float32, its fastest type."""
    name = {"l1": "manhattan", "l2": "euclidean"}[metric]
    model = NearestNeighbors(n_neighbors=K, algorithm="brute", metric=name, n_jobs=-1).fit(x_ND.astype(np.float32))
    return lambda q_QD: np.asarray(model.kneighbors(q_QD.astype(np.float32))[1])


def faiss(x_ND: Bytes, metric: Metric) -> Search:
    """Prepare FAISS's flat index: IndexFlatL2, and IndexFlat by METRIC_L1."""
    import faiss as library

    width = x_ND.shape[1]
    index = library.IndexFlatL2(width) if metric == "l2" else library.IndexFlat(width, library.METRIC_L1)
    index.add(x_ND.astype(np.float32))
    return lambda q_QD: np.asarray(index.search(q_QD.astype(np.float32), K)[1])


def timed(search: Search, q_QD: Bytes, repeats: int = 1) -> tuple[float, NDArray[np.int64]]:
    """Return the best of the times in seconds, and the neighbours."""
    times = []
    for _ in range(repeats):
        begun = perf_counter()
        found = search(q_QD)
        times.append(perf_counter() - begun)
    return min(times), found


def peak(metric: Metric, seconds: float = 0.5) -> float:
    """Return how many bytes a second all cores compare, by the kernel on rows that stay in the first cache.

    All rows of a call lie at one place (0 bytes apart), so that it is long and yet reads no memory but that.
    """
    run, few, many, width = kernel(metric), 8, 4096, 3072
    add = np.zeros(many, np.int32)

    def work(_: int) -> float:
        queries, row, out = np.ones((few, width), np.uint8), np.ones(width, np.uint8), np.empty((few, many), np.int32)
        done, begun = 0, perf_counter()
        while perf_counter() - begun < seconds:
            run(queries.ctypes.data, few, row.ctypes.data, many, 0, width, add.ctypes.data, 1, out.ctypes.data, many)
            done += few * many * width
        return done / (perf_counter() - begun)

    with ThreadPoolExecutor(cores()) as pool:
        return sum(pool.map(work, range(cores())))


def compare(x_ND: Bytes, queries: Bytes, counts: list[int], metric: Metric, cap: float) -> Iterator[dict[str, Any]]:
    """Yield a row of figures for each library and number of queries."""
    libraries: list[tuple[str, Callable[[Bytes, Metric], Search]]] = [
        ("saccade", ours),
        *([("faiss", faiss)] if importlib.util.find_spec("faiss") else []),
        ("scikit-learn", scikit_learn),
    ]
    best: dict[int, tuple[float, NDArray[np.int64]]] = {}
    most = max(peak(metric) for _ in range(REPEATS))
    for name, prepare in libraries:
        with _common.peak_memory() as held:
            search = prepare(x_ND, metric)
        each = timed(search, queries[:PROBE])[0] / PROBE
        for count in counts:
            row: dict[str, Any] = {"metric": metric, "queries": count, "library": name}
            if each * count > cap:
                yield {**row, "seconds": each * count, "expected": True, "times_ours": each * count / best[count][0]}
                continue
            with _common.peak_memory() as added:
                seconds, found = timed(search, queries[:count], REPEATS if name == "saccade" else 1)
            ours_seconds, reference = best.setdefault(count, (seconds, found))
            row |= {"seconds": seconds, "expected": False, "times_ours": seconds / ours_seconds}
            limit = count * len(x_ND) * x_ND.shape[1] / most
            yield {
                **row,
                "peak_mb": held[0] + added[0],
                "same_neighbours": float((found == reference).all(1).mean()),
                "limit_seconds": limit,
                "of_limit": limit / seconds,
            }


def main() -> None:
    """Run every library on both metrics and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--queries", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--cap", type=float, default=60.0, help="seconds a single search may take")
    options = parser.parse_args()
    images = data.integrity(data.open(options.source))
    x = images.pixels.squares(images.keys, options.side).reshape(len(images), -1)
    test = np.array([part == "test" for part in images.given_parts])
    q_QD = x[np.random.default_rng(0).permutation(np.flatnonzero(test))[: max(options.queries)]]
    x_ND = x[~test]
    del x
    print(f"{len(x_ND):,} rows of {x_ND.shape[1]:,} bytes ({x_ND.nbytes / 2**20:.0f} MB), {K} neighbours")
    print(f"{'':3}{'queries':>8} {'library':14}{'seconds':>9}{'× ours':>8}{'peak MB':>9}{'same':>8}{'of limit':>10}")
    rows = []
    for metric in ("l1", "l2"):
        for row in compare(x_ND, q_QD, options.queries, metric, options.cap):
            rows.append(row)
            head = f"{metric:3}{row['queries']:8,} {row['library']:14}{row['seconds']:9.3f}{row['times_ours']:8.1f}"
            ran = f"{row.get('peak_mb', 0):9.0f}{row.get('same_neighbours', 0):8.1%}{row.get('of_limit', 0):10.0%}"
            print(head + ("  expected, not run" if row["expected"] else ran), flush=True)
    sizes = {"rows": len(x_ND), "features": x_ND.shape[1], "k": K, "source": images.name}
    _common.write("neighbors", {**sizes, "load": psutil.getloadavg()[0], "results": rows})


if __name__ == "__main__":
    main()
