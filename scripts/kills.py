"""Kill a saccade command at random moments, resume it until it finishes, and see whether what it leaves is whole.

    python scripts/kills.py --kills 20 -- fit digits --budget 20s
    python scripts/kills.py --kills 20 --each 3 --same -- train digits --epochs 3
    python scripts/kills.py --kills 100 --each 5 --same --vary workers 0 2 -- train digits --epochs 2 --memory 0
        --flip --augment.rotate 15 --mixup 0.2 --ema 0.9 --precision bfloat16

The first run goes through; the others are killed by SIGKILL up to `--each` times, by turns at a moment drawn evenly
over its length and at one drawn evenly over what follows its first checkpoint, which is waited for: half of the kills
fall on the training, however busy the machine is. Each must then finish under `--resume` with a whole summary and a
model that predicts. With `--same` a checkpoint is written every 50 ms, and the SHA-256 of weights, last state (with
the optimizer's and the generators') and sample log must be those of the first, and the history too. `--vary` gives an
option's values to one run after the other; none may change anything. Ends with exit status 1 where something was
wrong.

Every command is forked from a process that has imported everything, so that the moments fall on its work.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from PIL import Image

from saccade.cli import main as saccade_main
from saccade.run import Run

KEYS = {"classes", "split", "validation", "chosen", "seconds", "warnings", "run"}
OFTEN = 0.05
POLL = 0.005
FORKED = multiprocessing.get_context("forkserver")


@dataclass
class Story:
    """What became of one run: the moments it was killed at, and what was wrong with it in the end.

    `whole` is the command that went from nothing to its end, where it was let.
    """

    killed: list[float] = field(default_factory=list)
    resumed: int = 0
    seconds: float = 0.0
    whole: "Done | None" = None
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """How a command ended, what it wrote, how long it took, and after how long it had saved its first checkpoint."""

    status: int
    out: str
    err: str
    seconds: float
    saved: float | None


@dataclass(frozen=True)
class Moment:
    """A time to kill at: so many seconds after a start or, where it is of the training, after its first checkpoint."""

    seconds: float
    training: bool


def saccade(*arguments: str | Path, often: bool = False, run: Path | None = None, kill: Moment | None = None) -> Done:
    """Do the command, whose checkpoints are the run's, until it ends or is killed by SIGKILL."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = FORKED.Process(target=command, args=([*map(str, arguments)], str(out), str(err), often))
        before, saved = checkpoints(run), None
        begun = time.perf_counter()
        process.start()
        while process.is_alive():
            now = time.perf_counter() - begun
            if saved is None and checkpoints(run) - before:
                saved = now
            since = saved if kill and kill.training else 0.0
            if kill and since is not None and now >= since + kill.seconds:
                process.kill()
            process.join(POLL)
        seconds = time.perf_counter() - begun
        assert process.exitcode is not None
        texts = (file.read_text(errors="replace") if file.exists() else "" for file in (out, err))
        return Done(process.exitcode, next(texts), next(texts), seconds, saved)


def checkpoints(run: Path | None) -> set[Path]:
    """Return the checkpoints in a run's folder."""
    return set(run.glob("checkpoints/*/*.json")) if run else set()


def command(arguments: Sequence[str], out: str, err: str, often: bool) -> None:
    """Be the command."""
    for stream, place in ((1, out), (2, err)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), stream)
    if often:
        from saccade.train import checkpoint

        checkpoint.FIRST = checkpoint.EVERY = OFTEN
        checkpoint.SHARE = math.inf
    status = saccade_main(arguments)
    sys.stdout.flush()
    os._exit(status)


def state(run: Path) -> dict[str, Any]:
    """Return the SHA-256 of a run's weights, of the parts of its last checkpoint, of its sample log; its history."""
    hashes: dict[str, Any] = {"weights": hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()}
    last = max(checkpoints(run))
    for part, name in json.loads(last.read_text())["files"].items():
        hashes[f"last state {part}"] = hashlib.sha256(last.with_name(name).read_bytes()).hexdigest()
    hashes["sample log"] = json.loads((run / "summary.json").read_text())["network"]["samples"]
    hashes["history"] = [{key: line[key] for key in line if key != "seconds"} for line in Run(run).history()]
    return hashes


def faults(run: Path, picture: Path, expected: dict[str, Any] | None) -> list[str]:
    """Return what is wrong with a run that says it is finished."""
    found = []
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        missing = KEYS - summary.keys()
        found += [f"summary.json lacks {', '.join(sorted(missing))}"] if missing else []
    except (OSError, ValueError) as error:
        found.append(f"summary.json: {error}")
    if not (run / "report.html").exists():
        found.append("no report.html")
    found += [f"left half: {file.name}" for file in sorted(run.rglob(".*")) if file.is_file()]
    done = saccade("predict", run, picture, "--json")
    if done.status or json.loads(done.out)["predictions"][0]["error"]:
        found.append(f"predict: {done.err.strip().splitlines()[-1:]}")
    if expected is not None and not found:
        now = state(run)
        found += [f"another {name}" for name in expected.keys() | now.keys() if expected.get(name) != now.get(name)]
    return found


def live(given: Sequence[str], run: Path, moments: Sequence[Moment], *, picture: Path, expected: Any) -> Story:
    """Kill a run at each of the moments, each of a start of its own, then let it finish."""
    story, begun = Story(), time.perf_counter()
    for moment in (*moments, None):
        resumed = bool(checkpoints(run))
        story.resumed += resumed
        done = saccade(*given, "--out", run, "--resume", often=expected is not None, run=run, kill=moment)
        if done.status == -signal.SIGKILL and moment is not None:
            story.killed.append(done.seconds)
            continue
        story.whole = None if resumed else done
        if done.status:
            story.faults.append(f"exit status {done.status}: {done.err.strip().splitlines()[-1:]}")
        break
    story.seconds = time.perf_counter() - begun
    story.faults += story.faults or faults(run, picture, expected)
    return story


def drawn(draw: random.Random, whole: Done, training: bool) -> Moment:
    """Draw a moment evenly over the length of a command that was let, or over what followed its first checkpoint."""
    begun = whole.saved if training and whole.saved is not None else 0.0
    return Moment(draw.uniform(0.0, whole.seconds - begun), training)


def table(stories: Sequence[Story]) -> str:
    """Return a row for each number of kills a run had, and the sum of all."""
    counts = Counter(len(story.killed) for story in stories)
    lines = [f"\n{'kills':>6}{'runs':>6}{'whole':>7}"]
    for number, runs in sorted(counts.items()):
        whole = sum(len(story.killed) == number and not story.faults for story in stories)
        lines.append(f"{number:>6}{runs:>6}{whole:>7}")
    kills, resumed = (sum(each) for each in zip(*((len(s.killed), s.resumed) for s in stories), strict=True))
    bad = sum(bool(story.faults) for story in stories)
    lines.append(f"{kills} kills, {resumed} starts from a checkpoint, {len(stories)} runs, {bad} with faults")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills in all")
    parser.add_argument("--each", type=int, default=1, help="kills a run at the most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--same", action="store_true", help="weights, state, samples and history as in the first run")
    parser.add_argument("--vary", nargs="+", metavar=("OPTION", "VALUE"), default=[""])
    parser.add_argument("command", nargs="+", help="after --: a command without --out, such as: fit digits")
    return parser.parse_args()


def main() -> int:
    """Run the command once, then kill and resume it as often as asked for; print a line each and what it came to."""
    given = parsed()
    FORKED.set_forkserver_preload(["saccade.recipe", "saccade.cli.training", "saccade.cli.predict"])
    varied = cycle([[f"--{given.vary[0]}={value}"] for value in given.vary[1:]] or [[]])
    draw, of_training, stories = random.Random(given.seed), cycle((False, True)), list[Story]()
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        Image.new("RGB", (40, 30), (90, 140, 220)).save(picture)
        saccade("models")  # what is imported first would count
        run = Path(folder) / "whole"
        whole = saccade(*given.command, *next(varied), "--out", run, often=given.same, run=run)
        if whole.status:
            print(whole.err, file=sys.stderr)
            return 1
        print(f"uninterrupted: {whole.seconds:.1f} s")
        check = partial(live, picture=picture, expected=state(run) if given.same else None)
        while (kills := sum(len(story.killed) for story in stories)) < given.kills and len(stories) < 2 * given.kills:
            moments = [drawn(draw, whole, next(of_training)) for _ in range(min(given.each, given.kills - kills))]
            story = check([*given.command, *next(varied)], Path(folder) / f"run-{len(stories)}", moments)
            stories.append(story)
            whole = story.whole or whole  # the machine may have become busier, or less busy
            told = ", ".join(f"{moment:.1f} s" for moment in story.killed) or "no time: it was faster"
            ended = "; ".join(story.faults) or "whole"
            print(f"killed at {told}; ended after {story.seconds:.1f} s: {ended}", flush=True)
    print(table(stories))
    return any(story.faults for story in stories)


if __name__ == "__main__":
    sys.exit(main())
