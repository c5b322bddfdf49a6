"""What a network does with one training batch before it is trained: inputs, activations, scores, first updates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saccade.data.batches import Batch
from saccade.train.budget import Pace
from saccade.train.loop import train
from saccade.train.preparing import unchanged
from saccade.train.session import Session
from saccade.train.watch import Watch

STEPS = 3
"""Updates after which every layer should have learnt something, those behind a layer of zeros too."""
EDGE = 0.02
"""A sigmoid is saturated within this share of its range from either end."""
RECTIFIERS = ("relu", "relu_", "clamp_min", "clamp_min_")
SQUASHERS = {"sigmoid": (0.0, 1.0), "sigmoid_": (0.0, 1.0), "tanh": (-1.0, 1.0), "tanh_": (-1.0, 1.0)}


@dataclass(frozen=True)
class Probe:
    """What was seen in one forward and backward pass in training mode.

    `first_layer` is the first module called that has a matrix or kernels, `input_rms` the root mean square of
    what it was given. `dead` are the shares of units that were 0 on every image, `saturated` those of values
    at the ends of their range, by module. `gradient_rms` are by parameter; None where no gradient arrived.
    """

    first_layer: str
    input_rms: float
    dead: dict[str, float]
    saturated: dict[str, float]
    scores_NK: Tensor
    gradient_rms: dict[str, float | None]


def probe(session: Session, batch: Batch) -> Probe:
    """Return what a copy of the session's network does with a batch."""
    trial = session.on_trial()
    network = trial.network.train()
    seen = _Seen()
    with _names(network, seen), seen:
        scores_NK = network(trial.forward.to_input(batch.x_NHWC)).float()
    trial.loss(scores_NK, batch.y_N.to(scores_NK.device)).mean().backward()
    gradients = {
        name: None if each.grad is None else float(each.grad.double().square().mean().sqrt())
        for name, each in network.named_parameters()
        if each.requires_grad
    }
    return Probe(seen.first_layer, seen.input_rms, seen.dead, seen.saturated, scores_NK.detach(), gradients)


def first_updates(session: Session) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each parameter of the network before and after a few updates of a copy."""
    plain = session.settings.model_copy(update={"schedule": "constant", "warmup": 0.0})
    trial = replace(session.on_trial(), settings=plain)
    before = {name: each.detach().clone() for name, each in trial.network.named_parameters()}
    training = replace(trial.training(), prepare=unchanged(trial.forward))
    for _ in train(training, Pace.fixed(STEPS), Watch()):
        pass
    return {name: (before[name], each.detach()) for name, each in trial.network.named_parameters()}


class _Seen(TorchFunctionMode):
    """Watches every function of tensors, whether a module or the network's own code calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.first_layer, self.input_rms = "", 0.0
        self.dead: dict[str, float] = {}
        self.saturated: dict[str, float] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function, and look at what it gave."""
        out = func(*args, **(kwargs or {}))
        operation = getattr(func, "__name__", "")
        if operation in RECTIFIERS and out.dim() > 1:
            self._note(self.dead, (out.detach() == 0).transpose(0, 1).flatten(1).all(1))
        elif operation in SQUASHERS and out.dim() > 1:
            low, high = SQUASHERS[operation]
            edge, values = EDGE * (high - low), out.detach()
            self._note(self.saturated, (values < low + edge) | (values > high - edge))
        return out

    def _note(self, shares: dict[str, float], yes: Tensor) -> None:
        name = self.stack[-1] if self.stack else "the network"
        shares[name] = max(shares.get(name, 0.0), float(yes.float().mean()))


@contextmanager
def _names(network: nn.Module, seen: _Seen) -> Iterator[None]:
    """Tell `seen` within the block which module is at work, and what the first layer is given."""

    def entering(name: str) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.stack.append(name or type(module).__name__)
            matrix = any(each.dim() > 1 for each in module.parameters(recurse=False))
            if matrix and not seen.first_layer and inputs and isinstance(inputs[0], Tensor):
                seen.first_layer = name
                seen.input_rms = float(inputs[0].detach().double().square().mean().sqrt())

        return enter

    def leave(*_: Any) -> None:
        seen.stack.pop()

    handles = []
    for name, module in network.named_modules():
        handles += [module.register_forward_pre_hook(entering(name)), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
