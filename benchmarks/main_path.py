"""What a budget buys: `saccade fit` on a source for several budgets and seeds, as whole commands.

    python benchmarks/main_path.py SOURCE --budgets 30s 5m --seeds 0 1 2

Prints a row a run: wall time beside the budget, and the test accuracy of its one look; then the means.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean

from saccade.device import machine

RESULTS = Path(__file__).parent / "results"


def measure(source: str, budget: str, seed: int, pretrained: str) -> dict[str, object]:
    """Run one `saccade fit` and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "saccade", "fit", source, "--budget", budget, "--seed", str(seed)]
        begun = time.perf_counter()
        answer = subprocess.run(
            [*command, "--pretrained", pretrained, "--out", str(out), "--json"], check=True, stdout=subprocess.PIPE
        )
        seconds = time.perf_counter() - begun
    summary = json.loads(answer.stdout)
    return {
        "source": Path(source).name,
        "budget": budget,
        "seed": seed,
        "seconds": round(seconds, 1),
        "chosen": summary["chosen"],
        "validation": summary["validation"]["accuracy"],
        "test": summary["test"]["accuracy"],
        "interval": summary["test"]["interval"],
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="digits")
    parser.add_argument("--budgets", nargs="+", default=["15s", "30s"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pretrained", default="none")
    given = parser.parse_args()
    rows = []
    print(f"{'source':<24}{'budget':>8}{'seed':>6}{'wall':>9}{'validation':>12}{'test':>8}  chosen")
    for budget in given.budgets:
        for seed in given.seeds:
            row = measure(given.source, budget, seed, given.pretrained)
            rows.append(row)
            print(
                f"{row['source']:<24}{budget:>8}{seed:>6}{row['seconds']:>7} s{row['validation']:>12.4f}"
                f"{row['test']:>8.4f}  {row['chosen']}",
                flush=True,
            )
    by_budget = defaultdict(list)
    for row in rows:
        by_budget[row["budget"]].append(row["test"])
    for budget, accuracies in by_budget.items():
        print(f"mean test accuracy at {budget}: {mean(accuracies):.4f}")
    RESULTS.mkdir(exist_ok=True)
    name = f"main_path-{Path(given.source).stem}.json"
    (RESULTS / name).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
