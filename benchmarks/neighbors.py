"""Measure exact nearest neighbours on pixels against scikit-learn's brute force, and FAISS where it is installed.

    python benchmarks/neighbors.py ../shared/data/cifar10-jpeg.zip --queries 1000

prints one table and writes it, with the machine, to benchmarks/results/neighbors.json.
"""

import argparse
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from saccade import data
from saccade.classifiers import KNearestNeighbors
from saccade.device import machine
from saccade.files import write_json

K = 15
Bytes = NDArray[np.uint8]
Search = Callable[[], NDArray[np.int64]]


def ours(x_ND: Bytes, q_QD: Bytes, metric: str) -> Search:
    """Prepare our search; bytes stay bytes."""
    model = KNearestNeighbors(k=K, metric=metric).fit(x_ND, np.arange(len(x_ND)) % 10)
    return lambda: model.kneighbors(q_QD)[1]


def scikit_learn(x_ND: Bytes, q_QD: Bytes, metric: str) -> Search:
    """Prepare scikit-learn's brute force on float32, its fastest type."""
    x, q = x_ND.astype(np.float32), q_QD.astype(np.float32)
    model = NearestNeighbors(
        n_neighbors=K, algorithm="brute", metric={"l1": "manhattan", "l2": "euclidean"}[metric], n_jobs=-1
    ).fit(x)
    return lambda: np.asarray(model.kneighbors(q)[1])


def faiss(x_ND: Bytes, q_QD: Bytes, metric: str) -> Search:
    """Prepare FAISS's flat index."""
    import faiss as library  # type: ignore[import-not-found]

    x, q = x_ND.astype(np.float32), q_QD.astype(np.float32)
    index = library.IndexFlat(x.shape[1], {"l1": library.METRIC_L1, "l2": library.METRIC_L2}[metric])
    index.add(x)
    return lambda: np.asarray(index.search(q, K)[1])


def measured(search: Search, repeats: int) -> tuple[float, float, NDArray[np.int64]]:
    """Return the best of the times in seconds, the memory in MB it added while it ran, and the neighbours."""
    process, peak, done = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss - before)
            sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    times = []
    for _ in range(repeats):
        begun = perf_counter()
        found = search()
        times.append(perf_counter() - begun)
    done.set()
    watcher.join()
    return min(times), peak / 2**20, found


def main() -> None:
    """Run every library on both metrics and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="of ours and FAISS; scikit-learn runs once")
    options = parser.parse_args()
    images = data.integrity(data.open(options.source))
    x = images.pixels.squares(images.keys, options.side).reshape(len(images), -1)
    test = np.array([part == "test" for part in images.given_parts])
    q_QD, x_ND = x[test][:: max(1, int(test.sum()) // options.queries)][: options.queries].copy(), x[~test].copy()
    libraries: list[tuple[str, Callable[[Bytes, Bytes, str], Search]]] = [
        ("saccade", ours),
        *([("faiss", faiss)] if importlib.util.find_spec("faiss") else []),
        ("scikit-learn", scikit_learn),
    ]
    rows: list[dict[str, Any]] = []
    print(f"{len(q_QD):,} queries, {len(x_ND):,} rows of {x_ND.shape[1]:,} bytes, {K} neighbours")
    print(f"{'':4}{'library':14}{'seconds':>9}{'times ours':>12}{'added MB':>10}{'same neighbours':>17}")
    for metric in ("l1", "l2"):
        first, reference = 0.0, np.empty(0, np.int64)
        for name, prepare in libraries:
            search = prepare(x_ND, q_QD, metric)
            seconds, megabytes, found = measured(search, 1 if name == "scikit-learn" else options.repeats)
            if name == "saccade":
                first, reference = seconds, found
            same = float((found == reference).all(1).mean())
            row = {"metric": metric, "library": name, "seconds": seconds, "times_ours": seconds / first}
            rows.append({**row, "added_mb": megabytes, "same_neighbours": same})
            print(f"{metric:4}{name:14}{seconds:9.3f}{seconds / first:12.1f}{megabytes:10.0f}{same:17.1%}")
    sizes = {"queries": len(q_QD), "rows": len(x_ND), "features": x_ND.shape[1], "k": K, "source": images.name}
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    write_json(
        results / "neighbors.json", {**sizes, "load": psutil.getloadavg()[0], "results": rows, "machine": machine()}
    )


if __name__ == "__main__":
    main()
