"""Measure `saccade fit` against fastai's documented recipe at the same wall time, as whole processes, one by one.

    python benchmarks/against_fastai.py --photos clothing.zip --weights squeezenet1_0.safetensors --scratch cifar10.zip

On --photos both start from the same SqueezeNet 1.0 weights: fastai with vision_learner, Resize(128), aug_transforms,
lr_find and fine_tune. On --scratch fastai trains xresnet18 at 32 px by fit_one_cycle. Both use every core. fastai has
what a person who has done this before would give it: its folder is unpacked and its epochs are measured beforehand,
uncounted; it gets as many epochs as then fit, lr_find where that costs at most a quarter of the time, and where not
even one epoch of the whole network fits, the head alone. A zip has train/, test/ and perhaps validation/, each with a
folder of images a class; what has no path is left out. Prints one table and writes it, after each run, to
benchmarks/results/against_fastai.json, with a plot in .svg and .png.
"""

import argparse
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from _common import RESULTS, answer, fit, timed, write
from matplotlib.figure import Figure

from saccade.metrics import wilson_interval
from saccade.values import parse_seconds

TOOLS = ("saccade", "fastai")
COLOURS = {"saccade": "#0b6e99", "fastai": "#c4572a"}
SLACK = 0.97  # no two epochs take the same time
LR_FIND_BATCHES, LR_FIND_SHARE = 100, 0.25

Row = dict[str, Any]


@dataclass(frozen=True)
class Contest:
    """One source, the times both tools get, and what they start from; `folder` holds the unpacked zip."""

    source: Path
    folder: Path
    times: list[str]
    weights: str | None
    side: int

    def options(self) -> list[str]:
        """Return what fastai's side is told of it."""
        return [str(self.folder), "--side", str(self.side), *(["--weights", self.weights] if self.weights else [])]


def with_fastai(*options: str) -> Row:
    """Run fastai's side as a whole process and return what it says, with its seconds."""
    load = psutil.getloadavg()[0]
    done, seconds = timed([str(Path(__file__).with_name("_with_fastai.py")), *options])
    return {**answer(done), "seconds": round(seconds, 2), "load_before": round(load, 2)}


def fitting(measured: Row, seconds: float, frozen_first: bool) -> list[str]:
    """Return the epochs, and whether to look for a learning rate first, that end in time by a measured training.

    `measured` did one epoch, or (`frozen_first`) one of the head and one of the whole network.
    """
    epochs = measured["epoch_seconds"]
    frozen, whole = epochs[0] if frozen_first else 0.0, epochs[-1]
    left = SLACK * seconds - (measured["seconds"] - sum(epochs))
    searching = LR_FIND_BATCHES * epochs[0] / measured["batches"]
    search = searching <= LR_FIND_SHARE * seconds and searching + frozen + whole <= left
    left -= searching * search
    count = int((left - frozen) / whole)
    options = ["--lr-find"] if search else []
    if frozen_first and count < 1:
        return ["--epochs", "0", "--frozen-epochs", str(max(1, int(left / frozen)))]
    return [*options, "--epochs", str(max(1, count))]


def of_fastai(contest: Contest, time: str, seed: int, measured: Row) -> Row:
    """Train with fastai within a time and return the row of the table."""
    seconds = float(str(parse_seconds(time)))
    plan = fitting(measured, seconds, contest.weights is not None)
    said = with_fastai(*contest.options(), *plan, "--seed", str(seed))
    right, images = said.pop("right"), said.pop("images")
    test = {"accuracy": right / images, "interval": list(wilson_interval(right, images)), "images": images}
    did = f"{said['epochs']} epochs" if said["epochs"] else f"{said['frozen_epochs']} epochs of the head"
    did += f", rate {said['learning_rate']:.2g} found" if "learning_rate" in said else ", default rate"
    return {"chosen": did, "validation": said.pop("validation_accuracy"), "test": test, **said}


def rows_of(contest: Contest, seeds: list[int], tools: list[str]) -> Iterator[Row]:
    """Yield a row for each time, seed and tool."""
    measured: Row = with_fastai(*contest.options(), "--epochs", "1") if "fastai" in tools else {}
    for time in contest.times:
        for seed in seeds:
            for tool in tools:
                if tool == "saccade":
                    row = fit(contest.source, time, seed=seed, pretrained=contest.weights or "none")
                    if "failed" in row:
                        raise SystemExit(row["failed"])
                else:
                    row = of_fastai(contest, time, seed, measured)
                yield {"source": contest.source.name, "time": time, "seed": seed, "tool": tool, **row}


def ratio(rows: list[Row], row: Row) -> float | None:
    """Return saccade's error rate over fastai's in the same time and seed; None where there is none."""
    same = {r["tool"]: r["test"] for r in rows if all(r[key] == row[key] for key in ("source", "time", "seed"))}
    errors = {tool: 1 - test["accuracy"] for tool, test in same.items()}
    return errors["saccade"] / errors["fastai"] if len(errors) == len(TOOLS) and errors["fastai"] else None


def line(row: Row, error_ratio: float | None) -> str:
    """Return a row of the table."""
    low, high = row["test"]["interval"]
    told = f"{row['source']:<22}{row['time']:>5}{row['seed']:>6}  {row['tool']:<9}{row['seconds']:>8.1f}"
    told += f"{row['validation']:>12.4f}{row['test']['accuracy']:>8.4f}  {low:.3f}–{high:.3f}"
    return f"{told}{'' if error_ratio is None else f'{error_ratio:.2f}':>13}  {row['chosen']}"


def draw(rows: list[Row]) -> None:
    """Draw accuracy against the seconds really taken, with Wilson's intervals, a panel a source."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    figure = Figure(figsize=(4.5 * len(sources), 3.5), layout="constrained")
    panels = figure.subplots(1, len(sources), squeeze=False)[0]
    for panel, source in zip(panels, sources, strict=True):
        for tool in TOOLS:
            shown = [row for row in rows if (row["source"], row["tool"]) == (source, tool)]
            seconds, reached = [r["seconds"] for r in shown], [r["test"]["accuracy"] for r in shown]
            bars = [[abs(r["test"]["interval"][end] - r["test"]["accuracy"]) for r in shown] for end in (0, 1)]
            if shown:
                panel.errorbar(seconds, reached, bars, fmt="o", capsize=3, color=COLOURS[tool], label=tool)
        panel.set(title=source, xlabel="wall time of the whole process (s)", ylabel="test accuracy")
        panel.set(xlim=(0, 1.08 * max(row["seconds"] for row in rows if row["source"] == source)))
        panel.grid(alpha=0.3)
        panel.legend(loc="center left")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "against_fastai.svg", metadata={"Date": None})
    figure.savefig(RESULTS / "against_fastai.png", dpi=150)


def contests(given: argparse.Namespace, folder: Path) -> Iterator[Contest]:
    """Unpack the sources given and yield what is measured on each."""
    for source, times, weights, side in (
        (given.photos, given.times, given.weights, 128),
        (given.scratch, given.scratch_times, None, 32),
    ):
        if source is not None:
            with zipfile.ZipFile(source) as archive:
                archive.extractall(folder / source.stem)
            yield Contest(source, folder / source.stem, times, weights, side)


def main() -> None:
    """Measure, print the table, write JSON and pictures; all so far after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a zip of photos, for training from weights")
    parser.add_argument("--weights", help="SqueezeNet 1.0 (ImageNet, torchvision's names) as safetensors")
    parser.add_argument("--times", nargs="+", default=["2m", "4m", "8m"], help="with --photos")
    parser.add_argument("--scratch", type=Path, help="a zip of images of 32 px, for training from scratch")
    parser.add_argument("--scratch-times", nargs="+", default=["5m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    given = parser.parse_args()
    if given.photos and not given.weights:
        parser.error("--photos needs --weights: fastai would download its own, which are others")
    if not (given.photos or given.scratch):
        print("Nothing to measure: give --photos ZIP --weights FILE, or --scratch ZIP.")
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        for contest in contests(given, Path(folder)):
            if not rows:
                print(
                    f"{'source':<22}{'time':>5}{'seed':>6}  {'tool':<9}{'wall s':>8}{'validation':>12}{'test':>8}",
                    end="",
                )
                print(f"  {'interval':<11}{'error ratio':>13}  what was done")
            for row in rows_of(contest, given.seeds, given.tools):
                rows.append(row)
                row["error_ratio"] = ratio(rows, row)
                print(line(row, row["error_ratio"]), flush=True)
                write("against_fastai", {"rows": rows})
                draw(rows)


if __name__ == "__main__":
    main()
