"""A training under way, whose state can be taken between any two steps and put back, to the bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from saccade.device import Stream
from saccade.optim import Optimizer
from saccade.train.budget import Pace
from saccade.train.checkpoint import Checkpoint
from saccade.train.loop import Training, train
from saccade.train.patience import Patience
from saccade.train.samples import SampleLog
from saccade.train.watch import Watch


@dataclass(frozen=True)
class Course:
    """What is trained, with what and how long, who watches, how patiently; iterate to train, as `loop.train` does.

    Steps draw from torch's global generators what `stream` has, which the rest of the program does not notice.
    """

    training: Training
    pace: Pace
    watch: Watch
    stream: Stream
    patience: Patience | None = None
    samples: SampleLog = field(default_factory=SampleLog)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        batches = self.samples.following(self.training.batches)
        steps = train(replace(self.training, batches=batches), self.pace, self.watch)
        while True:
            with self.stream.drawing():
                step = next(steps, None)
            if step is None:
                return
            yield step

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network, within the block, the weights that predictions are to be made with.

        A moving average comes with the statistics that its steps had on average, near enough for a glance; weights
        of a whole stretch of the training with statistics of their own.
        """
        average = self.training.average
        if average is None:
            yield
            return
        with average.installed():
            if average.begin and average.steps:
                self.training.refresh()
            yield

    def checkpoint(self, **plain: Any) -> Checkpoint:
        """Return the state after the step yielded last, with `plain` values added; raises as `Watch.read` does."""
        tensors, numbers = _optimizer_state(self.training.optimizer)
        network = self.training.forward.network.state_dict()
        tensors.update({f"network/{name}": value for name, value in network.items()})
        generators = {"augment": self.training.draws.get_state(), **self.stream.states}
        tensors.update({f"generator/{name}": value for name, value in generators.items()})
        state: dict[str, Any] = {
            "pace": self.pace.state_dict(),
            "watch": self.watch.state_dict(),
            "samples": self.samples.state_dict(),
            "parts": self.training.parts.number,
            "optimizer": numbers,
        }
        if (average := self.training.average) is not None:
            tensors.update({f"average/{name}": value for name, value in average.values.items()})
            state["averaged"] = average.steps
        if (snapshots := self.training.snapshots) is not None:
            for number, taken in enumerate(snapshots.taken):
                tensors.update({f"snapshot/{number}/{name}": value for name, value in taken.items()})
            state["snapshots"] = len(snapshots.taken)
        if (patience := self.patience) is not None:
            tensors.update({f"best/{name}": value for name, value in patience.tensors().items()})
            state["patience"] = patience.plain()
        return Checkpoint({**state, "threads": torch.get_num_threads(), **plain}, tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what `checkpoint` returned, save the pace: it, and the batches, go on from there already."""
        # The threads that share a sum decide in which order it is added up.
        torch.set_num_threads(checkpoint.plain["threads"])
        self.watch.load_state_dict(checkpoint.plain["watch"])
        self.samples.load_state_dict(checkpoint.plain["samples"])
        self.training.parts.number = checkpoint.plain["parts"]
        self.training.forward.network.load_state_dict(below("network/", checkpoint.tensors))
        state = {**checkpoint.plain["optimizer"], **below("optimizer/", checkpoint.tensors)}
        _restore_optimizer(self.training.optimizer, state)
        if (average := self.training.average) is not None:
            average.load(below("average/", checkpoint.tensors), checkpoint.plain["averaged"])
        if (snapshots := self.training.snapshots) is not None:
            taken = range(checkpoint.plain["snapshots"])
            snapshots.taken = [below(f"snapshot/{number}/", checkpoint.tensors) for number in taken]
        if (patience := self.patience) is not None:
            patience.load(below("best/", checkpoint.tensors), checkpoint.plain["patience"])
        generators = below("generator/", checkpoint.tensors)
        self.training.draws.set_state(generators["augment"])
        self.stream.restore(generators)


def _optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and plain values of each rule and parameter; learning rates follow from the progress."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for number, rule in enumerate(optimizer.state_dict()):
        for index, state in rule["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{number}/{index}/{name}"] = value
                else:
                    numbers[f"{number}/{index}/{name}"] = value
    return tensors, numbers


def _restore_optimizer(optimizer: Optimizer, values: dict[str, Any]) -> None:
    states = optimizer.state_dict()
    for key, value in values.items():
        number, index, name = key.split("/", 2)
        rule = optimizer.rules[int(number)]
        parameter = [each for group in rule.param_groups for each in group["params"]][int(index)]
        if isinstance(value, Tensor):
            # Laid out as the parameter is, as it was before, so that a sum over both goes in the same order.
            alike = value.shape == parameter.shape
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value) if alike else value.clone()
        states[int(number)]["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(states)


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return those of a checkpoint's tensors whose names begin with `prefix`, by what follows it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
