"""Measure the linear softmax at its optimum against scikit-learn's, on standardised pixels.

    python benchmarks/linear.py ../shared/data/cifar10-jpeg.zip --cap 75

prints one table and writes it, with the machine, to benchmarks/results/linear.json. Every fit runs in a process of
its own and has `--cap` seconds. Objectives are mean cross-entropy + sum W^2 / (2 C N) on standardised pixels,
computed in float64 from the weights; `above` is the distance to the lowest of the table, relative, and `close` the
seconds after which LogisticRegression was within a ten-thousandth of it. SGDClassifier and LinearSVC minimise
other objectives, one class against the rest; they are timed at the last C only.
"""

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

import _common
import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.special import logsumexp

from saccade import data
from saccade.classifiers import LinearClassifier, Optimum

Array = NDArray[Any]
CLOSE, LOADING = 1e-4, 20.0
SAME = ("saccade", "saccade, tolerance 1e-5", "LogisticRegression")
OTHERS = ("SGDClassifier", "LinearSVC")


def ours(x_ND: Array, y_N: Array, c: float, tolerance: float) -> dict[str, Any]:
    """Fit ours on the bytes themselves: standardising is part of its time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether it converged is what the table says
        model = LinearClassifier(strength=1 / (2 * c * len(y_N)), solver=Optimum(tolerance=tolerance)).fit(x_ND, y_N)
    return {"weights": (model.weights_, model.bias_), "steps": model.n_iter_, "converged": model.converged_}


def logistic(z_ND: Array, y_N: Array, c: float, cap: float) -> dict[str, Any]:
    """Fit scikit-learn's on standardised float32, and note its objective after each step, until `cap` is over."""
    from sklearn.linear_model import LogisticRegression, _logistic

    begun, trace = perf_counter(), list[tuple[float, float]]()
    plain = _logistic.optimize.minimize

    def traced(*args: Any, **settings: Any) -> Any:
        def callback(intermediate_result: Any) -> None:
            trace.append((perf_counter() - begun, float(intermediate_result.fun)))
            if trace[-1][0] > cap:
                raise StopIteration

        return plain(*args, **{**settings, "callback": callback})

    with patch.object(_logistic.optimize, "minimize", traced), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was stopped is what the table says
        model = LogisticRegression(C=c, max_iter=100_000).fit(z_ND, y_N)
    more = {"steps": len(trace), "converged": trace[-1][0] <= cap, "trace": trace}
    return {"weights": (model.coef_, model.intercept_), **more}


def theirs(make: Callable[[], Any]) -> Callable[[Array, Array], dict[str, Any]]:
    """Return the fit of one of scikit-learn's estimators on standardised float32; standardising is not in its time."""

    def fit(z_ND: Array, y_N: Array) -> dict[str, Any]:
        model = make().fit(z_ND, y_N)
        steps = int(np.max(model.n_iter_))
        return {"weights": (model.coef_, model.intercept_), "steps": steps, "converged": steps < model.max_iter}

    return fit


def standard(x_ND: Array, like_ND: Array) -> Array:
    """Return pixels in float32, with mean 0 and deviation 1 over `like_ND`."""
    mean_D = like_ND.mean(0, dtype=np.float64)
    scale_D = np.sqrt(np.mean([np.square(block - mean_D).mean(0) for block in np.array_split(like_ND, 50)], axis=0))
    return np.concatenate([((block - mean_D) / scale_D).astype(np.float32) for block in np.array_split(x_ND, 50)])


def run_one(name: str, c: float, cap: float, place: Path) -> None:
    """Fit one classifier, and leave its weights and figures in `place`."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.svm import LinearSVC

    held = np.load(place / "data.npz")
    x_ND, y_N = held["x"], held["y"]
    kinds: dict[str, Callable[[Array, Array], dict[str, Any]]] = {
        "saccade": lambda x, y: ours(x, y, c, 1e-4),
        "saccade, tolerance 1e-5": lambda x, y: ours(x, y, c, 1e-5),
        "LogisticRegression": lambda z, y: logistic(z, y, c, cap),
        "SGDClassifier": theirs(lambda: SGDClassifier(loss="log_loss", alpha=1 / (c * len(y_N)), n_jobs=-1)),
        "LinearSVC": theirs(lambda: LinearSVC(C=c)),
    }
    if not name.startswith("saccade"):
        x_ND = standard(x_ND, x_ND)
    with _common.peak_memory() as added:
        begun = perf_counter()
        found = kinds[name](x_ND, y_N)
        seconds = perf_counter() - begun
    weights = found.pop("weights")
    np.savez(place / "weights.npz", w=weights[0], b=weights[1])
    figures = {"seconds": seconds, **found, "data_mb": x_ND.nbytes / 2**20, "added_mb": added[0]}
    (place / "figures.json").write_text(json.dumps(figures))


def capped(name: str, c: float, place: Path, cap: float) -> dict[str, Any]:
    """Run one fit in a process of its own; `failed` says where it gave no model in time."""
    command = [sys.executable, __file__, str(place), "--one", name, "--c", str(c), "--cap", str(cap)]
    try:
        subprocess.run(command, check=True, timeout=cap + LOADING)
    except subprocess.TimeoutExpired:
        return {"name": name, "c": c, "seconds": cap, "failed": f"no model within {cap:.0f} s"}
    figures: dict[str, Any] = json.loads((place / "figures.json").read_text())
    return {"name": name, "c": c, **figures}


def judged(place: Path, c: float, z_ND: Array, y_N: Array, test: tuple[Array, Array], *, same: bool) -> dict[str, Any]:
    """Return the objective in float64, where it is the `same`, and the test accuracy of the weights in `place`."""
    held = np.load(place / "weights.npz")
    w_KD, b_K = held["w"].astype(np.float64), held["b"].astype(np.float64)
    scores = [block.astype(np.float64) @ w_KD.T + b_K for block in np.array_split(z_ND, 50)]
    true = np.split(y_N, np.cumsum([len(block) for block in scores])[:-1])
    losses = [logsumexp(s, axis=1) - s[np.arange(len(y)), y] for s, y in zip(scores, true, strict=True)]
    value = float(np.concatenate(losses).mean() + np.sum(w_KD**2) / (2 * c * len(y_N)))
    accuracy = float(np.mean((test[0] @ w_KD.T + b_K).argmax(1) == test[1]))
    return {"objective": value if same else None, "test_accuracy": accuracy}


def main() -> None:
    """Fit every classifier within its cap and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--cap", type=float, default=75.0, help="seconds each fit may take")
    parser.add_argument("--c", type=float, nargs="+", default=[0.01, 1.0], help="scikit-learn's C; 1 is its default")
    parser.add_argument("--rows", type=int, help="training rows to use, to try this out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one, options.c[0], options.cap, Path(options.source))
        return
    images = data.integrity(data.open(options.source))
    x_ND = images.pixels.squares(images.keys, 32).reshape(len(images), -1)
    test = np.array([part == "test" for part in images.given_parts])
    train_N = np.flatnonzero(~test)[:: 1 if options.rows is None else max(1, (~test).sum() // options.rows)]
    with TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(place / "data.npz", x=x_ND[train_N], y=images.labels_N[train_N])
        z_ND, y_N = standard(x_ND[train_N], x_ND[train_N]), images.labels_N[train_N]
        held = standard(x_ND[test], x_ND[train_N]), images.labels_N[test]
        del x_ND
        rows = []
        for c in options.c:
            for name in (*SAME, *(OTHERS if c == options.c[-1] else ())):
                row = capped(name, c, place, options.cap)
                if "failed" not in row:
                    row |= judged(place, c, z_ND, y_N, held, same=name in SAME)
                rows.append(row)
                print(".", end="", flush=True)
    print()
    for row in rows:
        if row.get("objective"):
            row |= beside(
                [other["objective"] for other in rows if other["c"] == row["c"] and other.get("objective")], row
            )
    show(rows)
    sizes = {"rows": len(train_N), "features": z_ND.shape[1], "source": images.name, "cap": options.cap}
    _common.write("linear", {**sizes, "load": psutil.getloadavg()[0], "results": rows})


def beside(objectives: list[float], row: dict[str, Any]) -> dict[str, Any]:
    """Return how far a row's objective is above the lowest, and when its trace first came close to that."""
    lowest = min(objectives)
    close = [seconds for seconds, value in row.pop("trace", []) if value <= (1 + CLOSE) * lowest]
    return {"above": row["objective"] / lowest - 1, "close_seconds": close[0] if close else None}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    head = f"{'C':>6} {'classifier':25}{'seconds':>9}{'steps':>7}{'added MB':>10}{'objective':>11}{'above':>10}"
    print(f"{head}{'test':>8}{'close':>8}")
    for row in rows:
        told = f"  {row['failed']}" if "failed" in row else f"{row['steps']:7}{row['added_mb']:10.0f}"
        if row.get("objective"):
            told += f"{row['objective']:11.6f}{row['above']:10.1e}"
        elif "failed" not in row:
            told += f"{'–':>11}{'–':>10}"
        if "failed" not in row:
            close = "" if row.get("close_seconds") is None else f"{row['close_seconds']:.1f}"
            told += f"{row['test_accuracy']:8.4f}{close:>8}" + ("" if row["converged"] else "  cut short")
        print(f"{row['c']:6g} {row['name']:25}{row['seconds']:9.2f}{told}")


if __name__ == "__main__":
    main()
