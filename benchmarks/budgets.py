"""What a budget buys, and whether it is kept: `saccade fit` for several sources, budgets and seeds, as whole commands.

    python benchmarks/budgets.py clothing.zip cifar10.zip digits --pretrained squeezenet1_0.safetensors

Prints a row a run: wall time beside the budget, and the test accuracy of its one look; then the means over several
seeds. A budget is kept where the command, from its start to its end, takes at most 5 % or 5 s longer. After each run
everything so far is in benchmarks/results/budgets.json.
"""

import argparse
from collections import defaultdict
from statistics import mean
from typing import Any

from _common import fit, write

from saccade.values import parse_seconds

GRACE, GRACE_SECONDS = 0.05, 5.0


def measure(source: str, budget: str, seed: int, pretrained: str) -> dict[str, Any]:
    """Run one `saccade fit` and return its figures, with how far it ran over its budget (negative: ended early)."""
    row = fit(source, budget, seed=seed, pretrained=pretrained)
    given = float(str(parse_seconds(budget)))
    over = row["seconds"] - given
    kept = over <= max(GRACE * given, GRACE_SECONDS) and "failed" not in row
    return {**row, "budget_seconds": given, "over_seconds": round(over, 2), "kept": kept}


def line(row: dict[str, Any]) -> str:
    """Return a run's row of the table."""
    told = f"{row['source']:<24}{row['budget']:>7}{row['seed']:>6}{row['seconds']:>9.1f}{row['over_seconds']:>+8.1f}"
    told += f"{'yes' if row['kept'] else 'NO':>6}"
    if "failed" in row:
        return f"{told}  {row['failed']}"
    low, high = row["test"]["interval"]
    return f"{told}{row['validation']:>12.4f}{row['test']['accuracy']:>8.4f}  {low:.3f}–{high:.3f}  {row['chosen']}"


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=["digits"])
    parser.add_argument("--budgets", nargs="+", default=["10s", "30s", "2m", "5m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pretrained", default="auto", help="a file of weights, auto or none")
    parser.add_argument("--name", default="budgets", help="of the file in results/")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'source':<24}{'budget':>7}{'seed':>6}{'wall s':>9}{'over':>8}{'kept':>6}{'validation':>12}{'test':>8}")
    for source in given.sources:
        for budget in given.budgets:
            for seed in given.seeds:
                rows.append(measure(source, budget, seed, given.pretrained))
                print(line(rows[-1]), flush=True)
                write(given.name, {"rows": rows})
    accuracies = defaultdict(list)
    for row in rows:
        if "failed" not in row:
            accuracies[row["source"], row["budget"]].append(row["test"]["accuracy"])
    for (source, budget), reached in accuracies.items():
        if len(reached) > 1:
            print(f"mean test accuracy of {len(reached)} seeds, {source} at {budget}: {mean(reached):.4f}")
    print(f"{sum(row['kept'] for row in rows)} of {len(rows)} budgets kept")


if __name__ == "__main__":
    main()
