"""What several benchmarks share: whole commands run and timed, and results written with the machine beside them."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from saccade.device import machine
from saccade.files import write_atomic

RESULTS = Path(__file__).parent / "results"
LINE = 300
"""Characters that a value may take to be written on one line."""


def timed(command: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a command to its end; return it, with what it wrote, and its seconds as a whole process."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    return done, time.perf_counter() - begun


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object a command printed; raises SystemExit with its last words where it failed."""
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, done.args[1:]))}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def fit(source: Path | str, budget: str, *, seed: int, pretrained: str) -> dict[str, Any]:
    """Run one `saccade fit` as a whole command and return its figures; `failed` says why where there are none."""
    load = psutil.getloadavg()[0]
    with TemporaryDirectory() as folder:
        options = ["--budget", budget, "--seed", str(seed), "--pretrained", pretrained, "--out", f"{folder}/run"]
        done, seconds = timed(["-m", "saccade", "fit", str(source), *options, "--json"])
    row = {"source": Path(source).name, "budget": budget, "seed": seed, "pretrained": Path(pretrained).name}
    row = {**row, "seconds": round(seconds, 2), "load_before": round(load, 2)}
    if done.returncode:
        return {**row, "failed": done.stderr.strip().splitlines()[-1]}
    summary = answer(done)
    figures = {name: summary["test"][name] for name in ("accuracy", "interval", "images", "looks")}
    return {**row, "chosen": summary["chosen"], "validation": summary["validation"]["accuracy"], "test": figures}


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list of one number: the most MB that this process grew by within the block, once it has ended."""
    process, done, peak = psutil.Process(), threading.Event(), [0.0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], (process.memory_info().rss - before) / 2**20)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def write(name: str, results: Mapping[str, Any]) -> None:
    """Write results with the machine they were measured on to results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    write_atomic(RESULTS / f"{name}.json", compact({"machine": machine(), **results}) + "\n")


def compact(value: Any, indent: str = "") -> str:
    """Return JSON in which what is short, such as a row, is on one line; infinities and NaN are refused."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(line) <= LINE or not isinstance(value, Mapping | list | tuple):
        return line
    inner = indent + " "
    if isinstance(value, Mapping):
        parts = [f"{json.dumps(str(name))}: {compact(each, inner)}" for name, each in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + compact(each, inner) for each in value) + f"\n{indent}]"
