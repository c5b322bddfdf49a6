"""Kill a saccade command at random moments, resume it until it finishes, and see whether what it leaves is whole.

    python scripts/kills.py --kills 20 -- fit digits --budget 20s
    python scripts/kills.py --kills 20 --each 3 --same-weights -- train digits --epochs 3

The first run goes through; the others are killed by SIGKILL at a moment drawn evenly over its length, up to `--each`
times a run. Each must then finish under `--resume` with a whole summary and a model that predicts; with
`--same-weights`, with the very weights of the first. Ends with exit status 1 where one did not.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

KEYS = {"classes", "split", "validation", "chosen", "seconds", "warnings", "run"}


@dataclass
class Story:
    """What became of one run: the moments it was killed at, and what was wrong with it in the end."""

    killed: list[float] = field(default_factory=list)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def saccade(*arguments: str | Path, seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the command, killed by SIGKILL after so many seconds."""
    command = [sys.executable, "-m", "saccade", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def weights(run: Path) -> str:
    """Return the SHA-256 of a run's weights."""
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def faults(run: Path, picture: Path, expected: str | None) -> list[str]:
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
    if done.returncode or json.loads(done.stdout)["predictions"][0]["error"]:
        found.append(f"predict: {done.stderr.strip().splitlines()[-1:]}")
    if expected is not None and not found and weights(run) != expected:
        found.append("other weights")
    return found


def live(command: list[str], run: Path, moments: list[float], *, picture: Path, expected: str | None) -> Story:
    """Kill a run at each of the moments, counted from each start, then let it finish."""
    story, begun = Story(), time.perf_counter()
    for moment in (*moments, None):
        done = saccade(*command, "--out", run, "--resume", seconds=moment)
        if done.returncode == -signal.SIGKILL and moment is not None:
            story.killed.append(moment)
            continue
        if done.returncode:
            story.faults.append(f"exit status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        break
    story.seconds = time.perf_counter() - begun
    story.faults += story.faults or faults(run, picture, expected)
    return story


def main() -> int:
    """Run the command once, then kill and resume it as often as asked for; print a line each and what it came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills in all")
    parser.add_argument("--each", type=int, default=1, help="kills a run at the most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--same-weights", action="store_true")
    parser.add_argument("command", nargs="+", help="after --: a command without --out, such as: fit digits")
    given = parser.parse_args()
    draw, stories, kills = random.Random(given.seed), list[Story](), 0
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        Image.new("RGB", (40, 30), (90, 140, 220)).save(picture)
        begun = time.perf_counter()
        done = saccade(*given.command, "--out", Path(folder) / "whole")
        length = time.perf_counter() - begun
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        print(f"uninterrupted: {length:.1f} s")
        expected = weights(Path(folder) / "whole") if given.same_weights else None
        while kills < given.kills and len(stories) < 2 * given.kills:
            each = min(given.each, given.kills - kills)
            drawn = [draw.uniform(0.0, length) for _ in range(each)]
            run = Path(folder) / f"run-{len(stories)}"
            story = live(given.command, run, drawn, picture=picture, expected=expected)
            kills += len(story.killed)
            stories.append(story)
            moments = ", ".join(f"{moment:.1f} s" for moment in story.killed) or "no time: it was faster"
            ended = "; ".join(story.faults) or "whole"
            print(f"killed at {moments}; ended after {story.seconds:.1f} s: {ended}", flush=True)
    bad = [story for story in stories if story.faults]
    counts = Counter(len(story.killed) for story in stories)
    print(f"\n{'kills':>6}{'runs':>6}{'whole':>7}")
    for number, runs in sorted(counts.items()):
        print(f"{number:>6}{runs:>6}{runs - sum(len(story.killed) == number for story in bad):>7}")
    print(f"{sum(len(story.killed) for story in stories)} kills, {len(stories)} runs, {len(bad)} with faults")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
