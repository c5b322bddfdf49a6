"""The watch during training: names what goes wrong, live; stops at a loss that is no number, naming step and images."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from saccade.errors import DivergedError
from saccade.events import Finding
from saccade.train.look import Look, Sample
from saccade.train.reading import Curve
from saccade.train.rules import FEW, RECENT, RULES, WINDOW, Story
from saccade.words import some

EVERY = 8
"""Steps whose losses are read at once."""
LOOKS, APART = (8, 16, 32), 64
"""The first steps that are looked into, and how far apart those after are: under 1 % of the time."""


class Watch:
    """Keeps the last few losses on the device and reads them only every few steps.

    `names(indices)` turns image indices into the names to blame. `latest` is the mean loss of the last
    few steps read; None before any was; `first` are those of the first FEW steps.

    Given the steps of an `epoch`, it also looks into a step now and then (`begin` and `seeing` before and in it),
    asks RULES after each look, and hands what they find to `tell`, once a kind. What it knows is a function of
    losses and steps alone, never of the clock, so that it goes on from `state_dict` as if nothing had been.
    """

    def __init__(
        self,
        names: Callable[[Sequence[int]], Sequence[str]] = lambda indices: [*map(str, indices)],
        *,
        epoch: int | None = None,
        tell: Callable[[Finding], None] = lambda finding: None,
    ) -> None:
        self.names, self.epoch, self.tell = names, epoch, tell
        self.latest: float | None = None
        self.told: list[Finding] = []
        self.samples: list[Sample] = []
        self.sound = False
        self._curve, self._lowest = Curve(), math.inf
        self._recent: list[float] = []
        self.first: list[float] = []
        self._held: list[tuple[float, float]] = []
        self._look: Look | None = None
        self._rate = 0.0
        self._unread: list[tuple[int, Tensor, Tensor]] = []
        self._total, self._steps = 0.0, 0

    @property
    def exploded(self) -> str:
        """Why the training is to go back; "" where it is well."""
        return next((each.detail for each in self.told if each.kind == "exploded"), "")

    @property
    def hopeless(self) -> str:
        """Why no further step can help; "" where it may."""
        return next((each.detail for each in self.told if each.severity == "error"), "")

    def begin(self, step: int, network: nn.Module, rate: float) -> None:
        """Look into the step that begins, where it is one of those; `rate` is the schedule's factor in it."""
        self._look, self._rate = (Look(network), rate) if self.epoch is not None and due(step) else (None, 0.0)

    def seeing(self) -> AbstractContextManager[None]:
        """Return a context for the network's forward pass."""
        return nullcontext() if self._look is None else self._look.seeing()

    def __call__(self, step: int, loss_N: Tensor, index_N: Tensor) -> None:
        """Take note of a step's losses, one an image, after its update; every few steps, read them.

        Raises DivergedError when one of them is NaN or infinite.
        """
        self._unread.append((step, loss_N.detach(), index_N))
        watched = self.epoch is not None
        if len(self._unread) == EVERY or (watched and (due(step) or (step + 1) % EVERY == 0)):
            self.read()
        self.sound = False
        if watched and due(step):
            sample = self._look.sample(step, self._rate) if self._look else None
            self.samples = [*self.samples, sample][-2:] if sample else self.samples
            self._look = None
            self._ask(step)
        elif watched and (step + 1) % EVERY == 0:  # by the next look the loss may be back, and the network dead
            self._tell_of(self._story(step), ("exploded",))

    def read(self) -> None:
        """Read the losses not read yet; raises DivergedError as above."""
        if not self._unread:
            return
        means = [float(loss_N.cpu().double().mean()) for _, loss_N, _ in self._unread]
        if not math.isfinite(sum(means)):
            self._blame()
        for mean in means:  # one by one, so that the sum does not depend on when it is read
            self._total += mean
            self._curve.add(mean)
            self._recent = [*self._recent[1 - RECENT :], mean]
            self.first += [mean] if len(self.first) < FEW else []
        self._steps += len(means)
        self.latest = fmean(self._recent[-EVERY:])
        self._unread.clear()

    def mean(self) -> float:
        """Return the mean loss of all steps since the last call of `mean`."""
        self.read()
        mean = self._total / max(1, self._steps)
        self._total, self._steps = 0.0, 0
        return mean

    def hold(self, step: int, training: float, validation: float) -> None:
        """Take note of the losses of a look at validation images."""
        if self.epoch is not None:
            self._held.append((training, validation))
            self._tell_of(self._story(step), ("overfitting",))

    def state_dict(self) -> dict[str, Any]:
        """Read, then return plain values from which another watch goes on; raises DivergedError as above."""
        self.read()
        return {
            "total": self._total,
            "steps": self._steps,
            "latest": self.latest,
            "curve": self._curve.plain(),
            "recent": [*self._recent],
            "first": [*self.first],
            "lowest": self._lowest if math.isfinite(self._lowest) else None,
            "held": [[*each] for each in self._held],
            "samples": [sample.plain() for sample in self.samples],
            "told": [{"kind": each.kind, "detail": each.detail, "severity": each.severity} for each in self.told],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._total, self._steps, self.latest = state["total"], state["steps"], state["latest"]
        self._curve, self._recent, self.first = Curve(**state["curve"]), [*state["recent"]], [*state["first"]]
        self._lowest = math.inf if state["lowest"] is None else state["lowest"]
        self._held = [(training, validation) for training, validation in state["held"]]
        self.samples = [Sample.of(each) for each in state["samples"]]
        self.told = [Finding(**each) for each in state["told"]]

    def _story(self, step: int) -> Story:
        return Story(
            step=step,
            epoch=self.epoch or 1,
            recent=self._recent,
            curve=self._curve.points,
            first=min(self.first, default=math.inf),
            lowest=self._lowest,
            samples=self.samples,
            held=self._held,
        )

    def _ask(self, step: int) -> None:
        """Ask every rule that has not spoken yet; a loss is `sound` where the training could go on from here."""
        story = self._story(step)
        self._tell_of(story, [rule.kind for rule in RULES])
        if len(self._recent) >= WINDOW:
            self._lowest = min(self._lowest, story.now)
            self.sound = not self.exploded and story.now < min(1.5 * self._lowest, story.first)

    def _tell_of(self, story: Story, kinds: Sequence[str]) -> None:
        known = {each.kind for each in self.told}
        for rule in RULES:
            if rule.kind in kinds and rule.kind not in known and (detail := rule.reads(story)):
                finding = Finding(kind=rule.kind, detail=f"Step {story.step + 1}: {detail}", severity=rule.severity)
                self.told.append(finding)
                self.tell(finding)

    def _blame(self) -> None:
        step, loss_N, index_N = next(kept for kept in self._unread if not kept[1].isfinite().all())
        wrong = index_N[~loss_N.isfinite().to(index_N.device)].tolist()
        value = "not a number" if loss_N.isnan().any() else "infinite"
        raise DivergedError(
            f"The loss became {value} at step {step + 1}, on {len(wrong)} of {len(loss_N)} images "
            f"({some(self.names(wrong))}); try a lower learning rate, or precision=float32.",
            step,
        )


def due(step: int) -> bool:
    """Return whether a step is one of those looked into.

    >>> [step for step in range(200) if due(step)]
    [8, 16, 32, 64, 128, 192]
    """
    return step in LOOKS or (step > 0 and step % APART == 0)
