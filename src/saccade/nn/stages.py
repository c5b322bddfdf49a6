"""Stages of a pretrained network: the modules whose outputs, averaged over the image, are features (lecture 7)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saccade.errors import ModelError, did_you_mean

END = "end"
"""What the output of the whole trunk is called, as a stage."""
FEWEST, MOST = 3, 6
"""Stages that a network is looked at by."""
DEEPEST = 2
"""Parts of the names of modules that may be stages: blocks, and not what is in them."""


@torch.no_grad()
def stages(trunk: nn.Module, side: int) -> tuple[str, ...]:
    """Return the names of the modules after which a trunk has seen more of the image, from the input to END.

    For each size that its maps (1, C, H, W) have on the way, the module that gives the last of them. Where the
    size stays, as in transformers, modules spread evenly over the depth stand for them. At most MOST.
    """
    seen: list[tuple[str, tuple[int, ...]]] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.append((name, _places(output))))
        for name, module in trunk.named_modules()
        if name and name.count(".") < DEEPEST  # what is inside a block may lay its maps out in another way
    ]
    x_NCHW = torch.linspace(-1, 1, 3 * side * side, device=next(trunk.parameters()).device).view(1, 3, side, side)
    training = trunk.training
    try:
        trunk.eval()(x_NCHW)
        mapped = {name: places for name, places in seen if places and max(places) > 1}
        last = list({places: name for name, places in mapped.items()}.values())
        tokens = [name for name, places in mapped.items() if len(places) == 1]
        if len(last) < FEWEST or 2 * len(tokens) > len(mapped):
            last = _evenly(tokens or [*mapped], FEWEST)
        if last:
            before, end = staged(trunk, x_NCHW, [last[-1], END])
            last = last[:-1] if before.shape == end.shape and torch.allclose(before, end) else last
    finally:
        trunk.train(training)
        for handle in handles:
            handle.remove()
    return (*last[-(MOST - 1) :], END)


def _evenly(names: Sequence[str], count: int) -> list[str]:
    """Return so many names, evenly spaced, the last one among them; all where there are no more.

    >>> _evenly("abcdef", 3)
    ['b', 'd', 'f']
    """
    return [names[(place + 1) * len(names) // count - 1] for place in range(count)] if len(names) > count else [*names]


def _places(output: object) -> tuple[int, ...]:
    """Return the places of the image that an output (1, C, H, W) or (1, T, D) tells apart; none of other outputs."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or len(output) != 1:
        return ()
    return tuple(units_first(output).shape[2:]) if output.ndim == 4 else (int(output.shape[1]),)


def stage_names(trunk: nn.Module) -> list[str]:
    """Return all names that stages of a trunk may have: its modules', in their order, and END.

    >>> stage_names(nn.Sequential(nn.Flatten(), nn.ReLU()))
    ['0', '1', 'end']
    """
    return [*(name for name, _ in trunk.named_modules() if name), END]


def check_stages(trunk: nn.Module, names: Sequence[str]) -> None:
    """Raise ModelError, with what may have been meant, where a trunk has no module of one of these names."""
    known = stage_names(trunk)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" Known are: {', '.join(known[:8])}, …"
            raise ModelError(f'The pretrained network has no stage "{name}".{hint}')


class _AllReached(Exception):  # noqa: N818 (it is no error)
    """Every stage asked for was reached: the rest of the network need not be computed."""


def staged(trunk: nn.Module, x_NCHW: Tensor, names: Sequence[str]) -> list[Tensor]:
    """Return the averaged outputs (N, D) of the named stages for normalised images, from one pass through a trunk.

    The pass ends where the last of them is reached; a module passed several times counts as it was last until then.
    Rows are in single precision at least. Raises ModelError where a stage is not passed or gives no row an image.
    """
    found: dict[str, Tensor] = {}

    def note(name: str, output: object) -> None:
        found[name] = _rows(name, output, len(x_NCHW))
        if found.keys() == set(names):
            raise _AllReached

    handles = [
        _named(trunk, name).register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name in dict.fromkeys(names)
    ]
    try:
        trunk(x_NCHW)
    except _AllReached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in names if name not in found]:
        raise ModelError(f'The pretrained network does not pass through "{missing[0]}"; give another stage.')
    return [found[name] for name in names]


def _rows(name: str, output: object, count: int) -> Tensor:
    """Return a stage's output, of several the first, averaged at once: what comes after may compute in place."""
    output = output[0] if isinstance(output, tuple) else output
    if not (isinstance(output, Tensor) and output.ndim > 1 and len(output) == count):
        given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f'Stage "{name}" gives {given} for {count} images, no row each; give another stage.')
    rows = averaged(output.to(torch.promote_types(output.dtype, torch.float32)))
    return rows.clone() if rows is output else rows


def averaged(output: Tensor) -> Tensor:
    """Return a row an image: maps (N, C, H, W) or (N, H, W, C) averaged over it, tokens (N, T, D) over the tokens.

    >>> averaged(torch.ones(2, 5, 3, 3)).shape, averaged(torch.ones(2, 9, 4)).shape
    (torch.Size([2, 5]), torch.Size([2, 4]))
    """
    if output.ndim == 3:
        return output.mean(1)
    return units_first(output).flatten(2).mean(2) if output.ndim > 3 else output


def units_first(output: Tensor) -> Tensor:
    """Return an output with its units before the places: of maps of square images, wherever they are, and of tokens.

    >>> units_first(torch.ones(2, 3, 3, 5)).shape, units_first(torch.ones(2, 9, 4)).shape
    (torch.Size([2, 5, 3, 3]), torch.Size([2, 4, 9]))
    """
    last = output.ndim == 3 or (output.ndim == 4 and output.shape[1] == output.shape[2] != output.shape[3])
    return output.movedim(-1, 1) if last else output


@torch.no_grad()
def drift(trunk: nn.Module, x_NCHW: Tensor, names: Sequence[str]) -> dict[str, float | None]:
    """Return how far normalised images lie from those a trunk was trained on, for each of the named stages.

    The mean over the batch norms since the stage before, and over their channels, of |mean of the batch - running
    mean| / running standard deviation: near 0 where the statistics are the network's own, 1 where they lie a
    standard deviation away. None where a stage has no batch norm.
    """
    found: dict[str, float | None] = {}
    since: list[float] = []

    def measured(norm: nn.modules.batchnorm._BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        if norm.running_mean is not None and norm.running_var is not None:
            x = inputs[0].float()
            mean_C = x.mean([axis for axis in range(x.ndim) if axis != 1])
            since.append(float(((mean_C - norm.running_mean).abs() / (norm.running_var + norm.eps).sqrt()).mean()))

    def closed(name: str) -> None:
        found[name] = sum(since) / len(since) if since else None
        since.clear()

    norms = [module for module in trunk.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_pre_hook(measured) for norm in norms]
    handles += [_named(trunk, name).register_forward_hook(lambda *_, name=name: closed(name)) for name in names]
    training = trunk.training
    try:
        trunk.eval()(x_NCHW)
    finally:
        trunk.train(training)
        for handle in handles:
            handle.remove()
    return found


def _named(trunk: nn.Module, name: str) -> nn.Module:
    return trunk.get_submodule("" if name == END else name)
