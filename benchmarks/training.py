"""What the training loop costs beside the bare step, and what minutes of training buy beside a plain PyTorch loop.

    python benchmarks/training.py SOURCE --overhead
    python benchmarks/training.py SOURCE --minutes 1 5 15 [--only saccade] [--seed 0]

`--overhead` trains SOURCE with the default recipe at full size, exactly as `saccade train` does, and after every few
steps runs as many bare ones: forward, loss, backward and optimizer of a copy of the network on batches that lie
prepared in memory. Both are timed in turns, so that whatever else the machine does falls on both.

`--minutes` runs, for each number, `saccade train SOURCE --budget Nm`, and torchvision's resnet18 in a plain PyTorch
loop for as long, reading included: random crops and mirrored images, SGD with Nesterov's momentum, one cycle, labels
not smoothed, channels last, bfloat16 where the hardware has it, on all images but the test part's. The test part is
predicted once by each after its time is up. Rows are added to what results/training.json has of the same machine, so
that lengths can be measured one at a time; training.svg and .png draw them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from _common import RESULTS, answer, timed, write
from matplotlib.figure import Figure
from torch import Tensor, nn

from saccade import audit, data
from saccade.device import machine, resolve_device, resolve_precision, synchronize
from saccade.events import Event, Progress, listening
from saccade.files import read_json
from saccade.ledger import Ledger
from saccade.metrics import wilson_interval
from saccade.palette import LIGHT
from saccade.recipe import network as training
from saccade.recipe import plan as planning
from saccade.recipe.material import gather
from saccade.recipe.plan import Plan
from saccade.recipe.record import Record
from saccade.settings import TrainSettings
from saccade.train import Clock, Pace, Session

TURN = 4
"""Steps of ours, then of the bare ones, in turns."""
WARM = 2
"""Turns that do not count."""
NAMES = {"saccade": ("right", "saccade train"), "plain": ("wrong", "resnet18, plain PyTorch loop")}


class Turns:
    """Listens to a training, and after every few steps runs as many bare ones; keeps the seconds a step of each."""

    def __init__(self, bare: Callable[[], None], device: torch.device) -> None:
        self.bare, self.device = bare, device
        self.ours_T: list[float] = []
        self.bare_T: list[float] = []
        self._begun = 0.0

    def __call__(self, event: Event) -> None:
        """Hear of a step of ours."""
        if not isinstance(event, Progress) or event.task != "train" or event.done % TURN:
            return
        synchronize(self.device)
        now = time.perf_counter()
        if self._begun:
            self.ours_T.append((now - self._begun) / TURN)
            for _ in range(TURN):
                self.bare()
            synchronize(self.device)
            self.bare_T.append((time.perf_counter() - now) / TURN)
        self._begun = time.perf_counter()


def overhead(source: str, steps: int) -> dict[str, Any]:
    """Return images a second of the loop and of the bare step, and by how much the loop is slower."""
    settings = TrainSettings(grow=False, epochs=1)
    with TemporaryDirectory() as folder, gather(source, settings, Path(folder) / "run") as material:
        plan = Plan(material.run, Clock(), settings.seed)
        settings = planning.resolve(settings, material.parts, plan)
        session = training.start(material.parts.train, settings)
        turns = Turns(bare_step(session), session.forward.device)
        record = Record.open(material.run, settings.model)
        with listening(turns):
            training.run(session, Pace.fixed(steps), material.parts.validation, plan, record, settled={})
    ours_T, bare_T = np.array(turns.ours_T[WARM:]), np.array(turns.bare_T[WARM:])
    seconds = {"ours": ours_T, "bare": bare_T}
    return {
        "source": Path(source).name, "model": settings.model, "size": settings.size, "batch_size": session.batch_size,
        "precision": str(session.forward.precision).removeprefix("torch."), "threads": torch.get_num_threads(),
        "turns": len(ours_T), "steps_a_turn": TURN,
        **{f"{name}_images_per_second": round(session.batch_size / median(each), 1) for name, each in seconds.items()},
        "slower": round(float(np.median(ours_T / bare_T)) - 1, 4),
        "slower_in_all": round(float(ours_T.sum() / bare_T.sum()) - 1, 4),
    }  # fmt: skip


def bare_step(session: Session) -> Callable[[], None]:
    """Return a step of a copy of a session's network, by its own rule, on batches prepared beforehand."""
    copy = session.on_trial()
    setup = copy.training()
    batches = [setup.prepare(next(setup.batches), 1.0) for _ in range(2)]
    network, rule, place = copy.network.train(), setup.optimizer, 0

    def step() -> None:
        nonlocal place
        x_NCHW, y_N = batches[place % len(batches)]
        place += 1
        with copy.forward.computing():
            scores_NK = network(x_NCHW)
        setup.loss(scores_NK.float(), y_N).mean().backward()
        rule.step(1.0)
        rule.zero_grad()

    return step


def ours(source: str, minutes: float, seed: int) -> dict[str, Any]:
    """Run `saccade train`, then look at the test part once, with a ledger of its own."""
    with TemporaryDirectory() as folder:
        os.environ["SACCADE_STATE"] = f"{folder}/state"
        run = f"{folder}/run"
        options = ["--budget", f"{minutes}m", "--seed", str(seed), "--out", run, "--json"]
        done, seconds = timed(["-m", "saccade", "train", source, *options])
        network = answer(done)["network"]
        test = answer(timed(["-m", "saccade", "evaluate", run, "--json"])[0])
    told = {name: network[name] for name in ("name", "epochs", "images_per_second", "validation_accuracy")}
    return {"seconds": round(seconds, 1), "accuracy": test["accuracy"], "interval": test["interval"], **told}


def theirs(source: str, minutes: float, seed: int) -> dict[str, Any]:
    """Run the plain loop in a process of its own, whose imports count as ours do."""
    done, seconds = timed([__file__, source, "--plain", str(minutes), "--seed", str(seed)])
    return {"seconds": round(seconds, 1), **answer(done)}


def plain(source: str, minutes: float, seed: int) -> dict[str, Any]:
    """Train torchvision's resnet18 as most people would, until the minutes since the process began are up."""
    from torchvision.models import resnet18

    end = psutil.Process().create_time() + 60 * minutes
    torch.manual_seed(seed)
    device = resolve_device()
    settings = TrainSettings()
    found = data.integrity(data.open(source, settings))
    parts = data.split(found, audit.duplicates(found), settings)
    side = min(128, planning.native_side(parts.train))
    x_NCHW, y_N = tensors(parts.known.squares(side), parts.known.labels_N, device)
    mean_C, sd_C = x_NCHW[:5000].float().mean((0, 2, 3)), x_NCHW[:5000].float().std((0, 2, 3))

    def normalised(x: Tensor) -> Tensor:
        scaled = (x.float() - mean_C[:, None, None]) / sd_C[:, None, None]
        return scaled.contiguous(memory_format=torch.channels_last)

    network = resnet18(num_classes=len(parts.classes)).to(device).to(memory_format=torch.channels_last)
    rule = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rates, begun, steps = one_cycle(), time.time(), 0
    precision = resolve_precision("auto", device)
    while (now := time.time()) < end:
        index_N = torch.randint(len(y_N), (128,), device=device)
        rule.param_groups[0]["lr"] = rates[int((now - begun) / (end - begun) * len(rates))]
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            loss = F.cross_entropy(network.train()(normalised(changed(x_NCHW[index_N]))), y_N[index_N])
        loss.backward()  # type: ignore[no-untyped-call]
        rule.step()
        rule.zero_grad()
        steps += 1
    if steps == 0:
        raise SystemExit("Reading took all of the time; give more minutes.")
    train_seconds = time.time() - begun
    with TemporaryDirectory() as folder:
        test, _ = parts.test.unseal(Ledger(Path(folder) / "looks.jsonl"), run="benchmark", command="training.py")
    hits = predicted(network, normalised, *tensors(test.squares(side), test.labels_N, device))
    return {
        "name": "torchvision/resnet18", "accuracy": hits / len(test),
        "interval": list(wilson_interval(hits, len(test))),
        "epochs": round(128 * steps / len(y_N), 2), "images_per_second": round(128 * steps / train_seconds, 1),
    }  # fmt: skip


def tensors(x_NHWC: Any, labels_N: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return images (N, 3, side, side) uint8 and labels on a device."""
    return torch.from_numpy(x_NHWC).to(device).permute(0, 3, 1, 2), torch.from_numpy(labels_N).to(device)


def changed(x_NCHW: Tensor) -> Tensor:
    """Return images cropped at random out of their padded selves (4 of 32 pixels), half of them mirrored."""
    side, images = x_NCHW.shape[-1], len(x_NCHW)
    pad = side // 8
    padded = F.pad(x_NCHW, (pad,) * 4)
    rows = torch.arange(side, device=x_NCHW.device)
    top_N, left_N = torch.randint(2 * pad + 1, (2, images, 1), device=x_NCHW.device)
    columns_NW = left_N + torch.where(torch.rand(images, 1, device=x_NCHW.device) < 0.5, rows, rows.flip(0))
    place_N = torch.arange(images, device=x_NCHW.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[place_N, (top_N + rows)[:, :, None], columns_NW[:, None]].permute(0, 3, 1, 2)


def one_cycle(highest: float = 0.2, steps: int = 1000) -> list[float]:
    """Return PyTorch's one-cycle rates over the course of a training."""
    rule = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=highest)
    schedule = torch.optim.lr_scheduler.OneCycleLR(rule, highest, total_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(float(rule.param_groups[0]["lr"]))
        rule.step()
        schedule.step()
    return rates


@torch.no_grad()
def predicted(network: nn.Module, normalised: Callable[[Tensor], Tensor], x_NCHW: Tensor, y_N: Tensor) -> int:
    """Return how many images are named correctly."""
    network.eval()
    chunks = zip(x_NCHW.split(500), y_N.split(500), strict=True)
    return sum(int((network(normalised(x)).argmax(1) == y).sum()) for x, y in chunks)


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw test accuracy over minutes, with intervals."""
    figure = Figure(figsize=(6, 3.8), facecolor=LIGHT["card"], layout="constrained")
    axes = figure.add_subplot(facecolor="none")
    for kind, (colour, name) in NAMES.items():
        own = sorted((row for row in rows if row["kind"] == kind), key=lambda row: float(row["minutes"]))
        x, y = [row["minutes"] for row in own], np.array([100 * row["accuracy"] for row in own])
        spans = np.abs(np.array([[100 * end for end in row["interval"]] for row in own]).T - y)
        axes.errorbar(x, y, yerr=spans, color=LIGHT[colour], marker="o", linewidth=2, capsize=3, label=name)
    minutes = sorted({row["minutes"] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(minutes, [f"{each:g}" for each in minutes])
    axes.minorticks_off()
    axes.set_xlabel("minutes, from the start of the command", color=LIGHT["quiet"])
    axes.set_title("test accuracy, %", loc="left", color=LIGHT["ink"], fontsize=11)
    axes.tick_params(length=0, labelcolor=LIGHT["quiet"])
    axes.grid(axis="y", color=LIGHT["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="lower right", labelcolor=LIGHT["ink"])
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(RESULTS / "training.svg", metadata={"Date": None})
    figure.savefig(RESULTS / "training.png", dpi=150)


def main() -> None:
    """Measure what was asked for, and add it to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--steps", type=int, default=100, help="of the training whose overhead is measured")
    parser.add_argument("--minutes", type=float, nargs="*", default=[])
    parser.add_argument("--only", choices=list(NAMES), help="of the two that --minutes compares")
    parser.add_argument("--plain", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.plain:
        json.dump(plain(given.source, given.plain, given.seed), sys.stdout)
        return
    file = RESULTS / "training.json"
    known = read_json(file) if file.exists() else {}
    known = known if known.get("machine") == machine() else {}
    found: dict[str, Any] = {"overhead": known.get("overhead", []), "rows": known.get("rows", [])}
    if given.overhead:
        row = overhead(given.source, given.steps)
        print(json.dumps(row, indent=1), flush=True)
        found["overhead"] = [row]
        write("training", found)
    for minutes in given.minutes:
        for kind, measure in {"saccade": ours, "plain": theirs}.items():
            if given.only not in (None, kind):
                continue
            key = {"source": Path(given.source).name, "minutes": minutes, "kind": kind, "seed": given.seed}
            row = {**key, **measure(given.source, minutes, given.seed)}
            print(f"{minutes:g} min  {row['name']:<22}{row['accuracy']:.4f}  {row['epochs']} epochs  "
                  f"{row['images_per_second']:.0f} images/s", flush=True)  # fmt: skip
            found["rows"] = [*(old for old in found["rows"] if not key.items() <= old.items()), row]
            write("training", found)
    rows = [row for row in found["rows"] if row["source"] == Path(given.source).name]
    if rows:
        draw(rows)


if __name__ == "__main__":
    main()
