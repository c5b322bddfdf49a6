"""Measure `saccade fit` against an earlier revision of itself, in pairs: same source, budget, weights and seed.

    python benchmarks/against_revision.py clothing.zip 3ef4942 --budget 8m --pretrained weights.safetensors

The revision is checked out beside, and both run with the libraries of this environment, in turn, each as a whole
command. The runs are kept in --out; a second start goes on after the first. Test accuracies are compared image by
image over all seeds. Prints one table and writes benchmarks/results/against_revision.json.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _common import write
from numpy.typing import NDArray

HERE = Path(__file__).parents[1]
NOW = "now"


def checked_out(revision: str, folder: Path) -> Path:
    """Return the source of a revision of this repository, checked out into a folder."""
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", "--shared", str(HERE), str(folder)], check=True)
        subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", revision], check=True)
    return folder / "src"


def fitted(code: Path, source: Path, given: argparse.Namespace, seed: int, run: Path) -> dict[str, Any]:
    """Run `saccade fit` of some code, or find the run of an earlier start, and return its row."""
    if not (run / "summary.json").exists():
        options = ["--budget", given.budget, "--seed", str(seed), "--pretrained", given.pretrained, "--out", str(run)]
        command = [sys.executable, "-m", "saccade", "fit", str(source), *options]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(code)}, check=True)
    summary = json.loads((run / "summary.json").read_text())
    test = {name: summary["test"][name] for name in ("accuracy", "interval", "images")}
    row = {"seed": seed, "seconds": summary["seconds"], "chosen": summary["chosen"]}
    return {**row, "validation": summary["validation"]["accuracy"], "test": test}


def right(run: Path) -> NDArray[np.bool_]:
    """Return which test images a run got right, by their names' order."""
    with (run / "predictions.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image"])
    return np.array([row["class"] == row["predicted"] for row in rows])


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("revision")
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pretrained", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/against_revision"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    code = {given.revision: checked_out(given.revision, given.out / f"code-{given.revision}"), NOW: HERE / "src"}
    rows: list[dict[str, Any]] = []
    gains = []
    print(f"{'revision':<10}{'seed':>5}{'wall s':>8}{'validation':>12}{'test':>8}  chosen")
    for seed in given.seeds:
        runs = {name: given.out.resolve() / f"{name}-{seed}" for name in code}
        for name, run in runs.items():
            row = fitted(code[name], given.source.resolve(), given, seed, run)
            rows.append({"revision": name, **row})
            told = f"{name:<10}{seed:>5}{row['seconds']:>8.0f}{row['validation']:>12.4f}{row['test']['accuracy']:>8.4f}"
            print(f"{told}  {row['chosen']}", flush=True)
        gains.append(right(runs[NOW]).astype(float) - right(runs[given.revision]))
        # Seeds share their test images: an image is one draw, whatever the number of seeds.
        each_N = np.mean(gains, axis=0)
        gain, error = float(each_N.mean()), float(each_N.std(ddof=1) / len(each_N) ** 0.5)
        said = {"source": given.source.name, "budget": given.budget, "pretrained": Path(given.pretrained).name}
        write("against_revision", {**said, "rows": rows, "gain": gain, "standard_error": error})
    print(f"{NOW} − {given.revision}: {100 * gain:+.1f} ± {100 * error:.1f} points (standard error over images)")


if __name__ == "__main__":
    main()
