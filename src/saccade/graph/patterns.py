"""Patterns in gradient flow (lecture 4): what each operation does with the gradient that comes back to it."""

import math
from collections.abc import Callable
from itertools import pairwise

from saccade.graph.records import Graph, Operation, Use
from saccade.graph.words import mention, number

SYMBOLS = {
    "add": "+", "sub": "−", "rsub": "−", "mul": "×", "div": "÷", "rdiv": "÷", "pow": "^", "rpow": "^", "matmul": "@",
    "neg": "× −1", "write": "write", "index": "[ ]", "maximum": "max", "minimum": "min", "vector_norm": "norm",
    "linalg_vector_norm": "norm", "scaled_dot_product_attention": "attention",
    "multi_head_attention_forward": "attention",
}  # fmt: skip
"""How an operation is written in a picture, where that is not its name."""

_REVERSED = ("rsub", "rdiv", "rpow")

CHAINS: dict[str, tuple[tuple[str, str], ...]] = {
    "sigmoid": (("neg", ""), ("exp", ""), ("add", "1"), ("rdiv", "1")),
    "softplus": (("exp", ""), ("add", "1"), ("log", "")),
}
"""Sub-expressions that are one function: operations in a row, each with its constant."""

_MOVES = frozenset(
    "view reshape flatten unflatten permute transpose t T mT squeeze unsqueeze contiguous movedim swapaxes clone to "
    "float double channels_last flip roll pixel_shuffle view_as reshape_as type_as".split()
)
_JOINS = frozenset("cat stack concat concatenate hstack vstack".split())
_PICKS = frozenset("index split chunk unbind select narrow gather index_select getitem tensor_split slice take".split())
AVERAGES = frozenset("mean avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d".split())
"""Operations that spread a gradient evenly over what they average."""

_NORMS = frozenset("batch_norm layer_norm group_norm instance_norm rms_norm".split())
_LOCAL = {
    "exp": "scales by its own output", "log": "divides by its input", "rdiv": "scales by −1/x²",
    "sqrt": "scales by 1/(2√x)",
    "sigmoid": "scales by σ(1 − σ), at most 1/4", "tanh": "scales by 1 − tanh², at most 1",
    "sin": "scales by the cosine", "rpow": "scales by aˣ·ln a",
    "cos": "scales by minus the sine", "neg": "turns the sign", "norm": "points along x/‖x‖",
    "vector_norm": "points along x/‖x‖", "linalg_vector_norm": "points along x/‖x‖",
    "softmax": "takes out the mean under its own probabilities",
    "log_softmax": "takes out the sum times its probabilities", "cross_entropy": "probabilities minus targets",
    "matmul": "multiply swaps: upstream × the other, transposed",
    "linear": "multiply swaps: Wᵀ × upstream to x, upstream × xᵀ to W",
    "write": "writes over part of it, and lets the rest through", "detach": "stops the gradient",
}  # fmt: skip


def symbol(operation: Operation) -> str:
    """Return how an operation is written in a picture, with its constants.

    A constant stands on its own side: "1 ÷" divides one by what comes in, "÷ 2" divides that by two.
    """
    sign = SYMBOLS.get(operation.name, operation.name)
    constants = [argument for argument in operation.arguments if "·" not in argument]
    if operation.name == "index":
        return f"[{', '.join(constants)}]"
    if operation.name in ("add", "sub", "mul", "div", "pow", *_REVERSED) and constants:
        return f"{constants[0]} {sign}" if operation.name in _REVERSED else f"{sign} {constants[0]}"
    return sign


def role(operation: Operation) -> str:
    """Return in words what an operation does with the gradient that comes back to it."""
    if not any(output.differentiable for output in operation.outputs):
        return "lets no gradient back"
    name = operation.name
    if name in _TABLE:
        return _TABLE[name](operation)
    if name in _LOCAL:
        return _LOCAL[name]
    for group, words in _GROUPS:
        if name in group:
            return words
    return "passes it through its local gradient"


def copies(uses: list[Use]) -> str:
    """Return what happens where a wire is used more than once: the gradients of its uses add."""
    parts = [f"#{use.operation.number + 1}" for use in uses]
    return f"copy adds the gradients of {len(uses)} uses ({', '.join(parts[:4])}{', …' if len(parts) > 4 else ''})"


def folds(graph: Graph) -> dict[Operation, str]:
    """Return for each operation that is part of a known sub-expression its name; a second one is "sigmoid 2"."""
    steps = graph.steps
    found: dict[Operation, str] = {}
    counts: dict[str, int] = {}
    for place in range(len(steps)):
        for name, chain in CHAINS.items():
            row = steps[place : place + len(chain)]
            if steps[place] not in found and _matches(graph, row, chain):
                counts[name] = counts.get(name, 0) + 1
                label = name if counts[name] == 1 else f"{name} {counts[name]}"
                found |= dict.fromkeys(row, label)
    return found


def _matches(graph: Graph, row: list[Operation], chain: tuple[tuple[str, str], ...]) -> bool:
    if len(row) < len(chain):
        return False
    for operation, (name, constant) in zip(row, chain, strict=True):
        constants = [argument for argument in operation.arguments if "·" not in argument]
        if operation.name != name or len(operation.uses) != 1 or constants != ([constant] if constant else []):
            return False
    return all(
        after.uses[0].wire is before.outputs[0] and graph.uses_of(before.outputs[0]) == after.uses
        for before, after in pairwise(row)
    )


def _multiply(operation: Operation) -> str:
    if len(operation.uses) < 2:
        return "scales by the constant"
    return "multiply swaps: each side gets the other's value × the gradient"


def _power(operation: Operation) -> str:
    if len(operation.uses) > 1:
        return "power: p·xᵖ⁻¹ to the base, xᵖ·ln x to the exponent"
    return "scales by p·xᵖ⁻¹" if "·" in operation.arguments[0] else _LOCAL["rpow"]


def _route(operation: Operation) -> str:
    """Say to whom the larger or smaller of several values sends the gradient."""
    word = "max" if operation.name.startswith(("max", "amax")) else "min"
    told = [use for use in operation.uses if use.gradient is not None]
    if len(told) < 2:
        entries = told[0].gradient if told else None
        if entries is None or entries.zeros == 0:
            return f"{word} routes the gradient to where the {word}imum is"
        kept = round((1 - entries.zeros) * _size(told[0]))
        return f"{word} routes the gradient to {kept:,} of {_size(told[0]):,} entries"
    shares = [(_size(use) - round(use.gradient.zeros * _size(use)), use) for use in told if use.gradient is not None]
    winners = [use for kept, use in shares if kept]
    if len(winners) == 1:
        return f"{word} routes all of it to {mention(winners[0].wire)}"
    if max(_size(use) for use in told) == 1:
        return f"{word} routes it to both, which are equal" if winners else f"{word} routes it to its {word}imum"
    return f"{word} routes it: " + ", ".join(f"{kept:,} entries to {mention(use.wire)}" for kept, use in shares)


def _gate(operation: Operation) -> str:
    """Say how many of the entries a ReLU lets through."""
    output = operation.outputs[0].value
    total = max(1, math.prod(output.shape))
    if total == 1:
        return f"ReLU gates: {'closed, nothing' if output.zeros else 'open, all of it'} comes through"
    return f"ReLU gates: open at {number(100 * (1 - output.zeros))} % of {total:,} entries"


def _size(use: Use) -> int:
    return math.prod(use.wire.value.shape)


_TABLE: dict[str, Callable[[Operation], str]] = {
    "mul": _multiply, "pow": _power, "relu": _gate, "relu6": _gate, "threshold": _gate,
    "max": _route, "maximum": _route, "amax": _route, "min": _route, "minimum": _route, "amin": _route,
    "max_pool2d": _route, "max_pool1d": _route, "adaptive_max_pool2d": _route, "boolean_dispatch": _route,
    "add": lambda operation: "add distributes it unchanged" if len(operation.uses) > 1
    else "add passes it on unchanged",
    "sub": lambda operation: "subtract distributes it, to the second with its sign turned" if len(operation.uses) > 1
    else "subtract passes it on unchanged",
    "rsub": lambda operation: "turns the sign",
    "div": lambda operation: "divide: 1/b to the first, −a/b² to the second" if len(operation.uses) > 1
    else "divides by the constant",
    "sum": lambda operation: "sum copies it to every entry",
    "abs": lambda operation: "abs routes it with the sign of its input",
}  # fmt: skip

_GROUPS: tuple[tuple[frozenset[str], str], ...] = (
    (AVERAGES, "mean spreads it evenly"),
    (_MOVES, "moves the numbers, and the gradient back"),
    (_JOINS, "splits it among its parts"),
    (_PICKS, "selects: it goes back to where the entries came from"),
    (_NORMS, "normalises: takes out its mean and its part along the output"),
    (frozenset("conv1d conv2d conv3d".split()), "multiply swaps: correlates it with the kernel, and with the input"),
    (frozenset("dropout dropout2d drop_path alpha_dropout bernoulli".split()), "gates at random"),
    (frozenset("gelu silu elu leaky_relu hardswish hardsigmoid prelu selu mish".split()), "gates softly, by its slope"),
    (
        frozenset("scaled_dot_product_attention multi_head_attention_forward".split()),
        "multiply swaps among queries, keys, values",
    ),
)
