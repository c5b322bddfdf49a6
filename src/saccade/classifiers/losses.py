"""Losses of linear scores, row by row: softmax and the multiclass hinge, each with its gradient (lecture 3)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import SettingError, did_you_mean

Array = NDArray[Any]
NAMES = ("softmax", "hinge", "squared_hinge")
Loss = Callable[[Array, Array], Array]  # (scores_NK, y_N) -> losses_N; the scores become the gradient


def loss_of(name: str, margin: float = 1.0, rounding: float = 0.0) -> Loss:
    """Return the loss called `name`: softmax, hinge or squared_hinge, the last two of a margin.

    Raises SettingError for a name that is none of them, and a margin of 0 or less.
    """
    if not margin > 0:
        raise SettingError(f"The margin cannot be {margin}; give a number above 0.")
    if name == "softmax":
        return softmax_loss
    if name == "hinge":
        return lambda scores_NK, y_N: hinge_loss(scores_NK, y_N, margin, rounding)
    if name == "squared_hinge":
        return lambda scores_NK, y_N: squared_hinge_loss(scores_NK, y_N, margin)
    raise SettingError(f'There is no loss "{name}"; give {", ".join(NAMES)}.{did_you_mean(str(name), NAMES)}')


def softmax_loss(scores_NK: Array, y_N: Array) -> Array:
    """Return -log softmax(s)[y] of each row and turn `scores_NK` into its gradient, softmax - one-hot, in place.

    >>> scores = np.zeros((1, 2))
    >>> softmax_loss(scores, np.array([0])).round(3), scores
    (array([0.693]), array([[-0.5,  0.5]]))
    """
    rows = np.arange(len(y_N))
    scores_NK -= scores_NK.max(1, keepdims=True)
    losses_N = -scores_NK[rows, y_N]
    np.exp(scores_NK, out=scores_NK)
    sums_N = scores_NK.sum(1)
    losses_N += np.log(sums_N)
    scores_NK /= sums_N[:, None]
    scores_NK[rows, y_N] -= 1
    return losses_N


def hinge_loss(scores_NK: Array, y_N: Array, margin: float = 1.0, rounding: float = 0.0) -> Array:
    """Return sum_{j != y} max(0, s_j - s_y + margin) of each row; turn `scores_NK` into a subgradient, in place.

    Weston and Watkins (1999), the notes' multiclass SVM loss. With a `rounding` r > 0 the corner at 0 becomes
    a parabola of width r, which makes the loss smooth, and smaller by at most r / 2 a class.

    >>> scores = np.array([[3.0, 2.5, -1.0]])
    >>> hinge_loss(scores, np.array([0])), scores
    (array([0.5]), array([[-1.,  1.,  0.]]))
    """
    short_NK = _shortfall(scores_NK, y_N, margin)
    if rounding:
        np.clip(short_NK / rounding, 0, 1, out=scores_NK)
        losses_NK = scores_NK * (short_NK - rounding / 2 * scores_NK)
    else:
        np.greater(short_NK, 0, out=scores_NK, casting="unsafe")
        losses_NK = np.maximum(short_NK, 0, out=short_NK)
    return _balanced(losses_NK, scores_NK, y_N)


def squared_hinge_loss(scores_NK: Array, y_N: Array, margin: float = 1.0) -> Array:
    """Return sum_{j != y} max(0, s_j - s_y + margin)^2 of each row; turn `scores_NK` into its gradient, in place.

    >>> scores = np.array([[3.0, 2.5, -1.0]])
    >>> squared_hinge_loss(scores, np.array([0])), scores
    (array([0.25]), array([[-1.,  1.,  0.]]))
    """
    short_NK = np.maximum(_shortfall(scores_NK, y_N, margin), 0)
    np.multiply(short_NK, 2, out=scores_NK)
    return _balanced(short_NK**2, scores_NK, y_N)


def _shortfall(scores_NK: Array, y_N: Array, margin: float) -> Array:
    """Return s_j - s_y + margin, and 0 for j = y."""
    rows = np.arange(len(y_N))
    short_NK = scores_NK - (scores_NK[rows, y_N] - scores_NK.dtype.type(margin))[:, None]
    short_NK[rows, y_N] = 0
    return np.asarray(short_NK)


def _balanced(losses_NK: Array, gradient_NK: Array, y_N: Array) -> Array:
    """Return the losses of each row, and give the true class the opposite of the others' gradient."""
    gradient_NK[np.arange(len(y_N)), y_N] = -gradient_NK.sum(1)
    return np.asarray(losses_NK.sum(1))
