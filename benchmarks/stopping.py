"""What stopping trials early saves, in seconds: whole searches run with each rule, of the same seeds.

    python benchmarks/stopping.py [SOURCE] [--model convnet] [--images 1000] [--trials 24] [--seeds 0 1 2 3 4]

A search is that of `saccade search`, coarse and refined trials, without finalists, in the wide ranges of search.py,
on a fresh SQLite board. A seed's target is the best accuracy that all rules reach; the test part stays sealed. Time is
told by the clock, and as the processor's, which other work on the machine leaves about as it is. Writes
results/NAME.json as it goes; seeds measured before are kept.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, get_args

from _common import write
from search import SPACE, known, opened, spread

from saccade.events import Event, StageEnded, listening
from saccade.recipe.search import Bench, Work, jobs
from saccade.settings import SearchSettings, TrainSettings
from saccade.study.board import Board
from saccade.train import Pace

RULES = get_args(SearchSettings.model_fields["stop"].annotation)
Row = dict[str, Any]


def measured(bench: Bench, settings: SearchSettings) -> Row:
    """Run one search; return its seconds, and when each trial that came to its end had ended, and how good it was.

    Both by the clock and the processor's; a trial of `course` is [by the clock, the processor's, accuracy].
    """
    begun = perf_counter(), process_time()
    ends: list[tuple[float, float]] = []

    def hear(event: Event) -> None:
        if isinstance(event, StageEnded):
            ends.append((perf_counter() - begun[0], process_time() - begun[1]))

    with TemporaryDirectory() as folder, listening(hear):
        board = Board.open(f"sqlite:///{folder}/trials.db", "stopping", SPACE, {}, jobs(settings, SPACE))
        rows = Work(bench, board, settings, SPACE, Path(folder)).until_all_ended()
        seconds, processor = perf_counter() - begun[0], process_time() - begun[1]
    course = [(*end, row.result["accuracy"]) for end, row in zip(ends, rows, strict=True) if row.state == "done"]
    stopped = [row.result["stopped"] for row in rows if row.state == "stopped"]
    told = {"seconds": seconds, "processor": processor, "stopped": stopped, "course": course}
    return {"seed": settings.seed, "rule": settings.stop, **told}


def told_of(rows: Sequence[Row]) -> list[Row]:
    """Return each rule's best accuracy, stopped trials, and seconds, of the whole and until the target.

    With standard errors; `saved` is what a rule needs less than no stopping, paired by seed.
    """
    seeds = sorted({row["seed"] for row in rows})
    found = {(row["rule"], row["seed"]): row for row in rows}
    best = {key: max(accuracy for _, _, accuracy in row["course"]) for key, row in found.items()}
    target = {seed: min(best[rule, seed] for rule in RULES) for seed in seeds}
    table = []
    for rule in RULES:
        stopped = [len(found[rule, seed]["stopped"]) for seed in seeds]
        table.append({"rule": rule, "best": spread([best[rule, seed] for seed in seeds]), "stopped": spread(stopped)})
        for place, clock in enumerate(("seconds", "processor")):
            whole = {key: row[clock] for key, row in found.items()}
            until = {
                key: next(end[place] for end in row["course"] if end[2] >= target[key[1]]) for key, row in found.items()
            }
            for name, took in {"whole": whole, "until_target": until}.items():
                table[-1][f"{clock}_{name}"] = {
                    "mean": spread([took[rule, seed] for seed in seeds]),
                    "saved": spread([took["none", seed] - took[rule, seed] for seed in seeds]),
                }
    return table


def main() -> None:
    """Run every rule with every seed that is missing, in an order that turns with the seed, and tell the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="digits")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--model", default="convnet")
    parser.add_argument("--norm", default="batch")
    parser.add_argument("--name", default="stopping", help="of the file of results")
    given = parser.parse_args()
    told = {name: getattr(given, name) for name in ("images", "trials", "epochs", "model", "norm")}
    told["source"] = Path(given.source).name
    base = {"model": given.model, "width": 0.25, "size": 16, "batch_size": 64, "optimizer": "adam", "grow": False,
            "flip": False, "epochs": given.epochs, "norm": given.norm}  # fmt: skip
    rows = known(given.name, told)
    bench = opened(given.source, given.images, TrainSettings(**base))
    for _ in bench.session({}, 0).run(Pace.fixed(20)):
        pass
    for seed in given.seeds:
        turned = RULES[seed % len(RULES) :] + RULES[: seed % len(RULES)]
        for rule in turned if all(row["seed"] != seed for row in rows) else ():
            settings = SearchSettings(**base, seed=seed, trials=given.trials, stop=rule, repeats=0)
            rows.append(measured(bench, settings))
            print(f"seed {seed}  {rule:<10} {rows[-1]['seconds']:.1f} s", flush=True)
        write(given.name, {**told, "rules": told_of(rows), "rows": rows})
    for each in told_of(rows):
        print(json.dumps(each))


if __name__ == "__main__":
    main()
