"""What all image features share: images in, a row of float32 an image out, a batch at a time."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from saccade.errors import InputError, SettingError
from saccade.events import Progress, emit

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Features = NDArray[np.float32]
T = TypeVar("T")
State = tuple[dict[str, Array], dict[str, Any]]


class ImageFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer of images (N, H, W, C) uint8, C = 1 or 3, into x_ND float32.

    A kind of features says how it learns from images (`_learn`; most have nothing to learn), how a batch
    becomes rows (`_rows`), and names the arrays it has learnt (`learnt`). A row depends on its own image
    alone, whatever batch it comes in. Labels are never looked at.

    Attributes: `image_shape_` (H, W, C), `n_features_` (D).
    """

    learnt: ClassVar[tuple[str, ...]] = ()
    batch: int = 64
    """Images computed at once: as many as stay in a core's cache."""

    image_shape_: tuple[int, int, int]
    n_features_: int

    def fit(self, x: ArrayLike, y: object = None) -> Self:
        """Learn what is to be learnt from images alone. Raises InputError for what are no such images."""
        x_NHWC = images(x)
        self.image_shape_ = x_NHWC.shape[1:]
        self._learn(x_NHWC)
        self.n_features_ = self._rows(x_NHWC[:1]).shape[1]
        return self

    def transform(self, x: ArrayLike) -> Features:
        """Return x_ND float32. Raises InputError for images unlike those it was fitted to; tells its progress."""
        check_is_fitted(self)
        x_NHWC = images(x)
        if x_NHWC.shape[1:] != self.image_shape_:
            raise InputError(
                f"Images of shape {x_NHWC.shape[1:]} given; {type(self).__name__} was fitted to {self.image_shape_}."
            )
        rows_ND = np.empty((len(x_NHWC), self.n_features_), np.float32)
        size = self._at_once()
        for start in range(0, len(x_NHWC), size):
            done = min(start + size, len(x_NHWC))
            rows_ND[start:done] = self._rows(x_NHWC[start:done])
            emit(Progress(task=type(self).__name__, done=done, total=len(x_NHWC), unit="images"))
        return rows_ND

    def to_state(self) -> State:
        """Return the arrays and the plain values that `from_state` makes the same features of."""
        check_is_fitted(self)
        tensors = {name: getattr(self, f"{name}_") for name in self.learnt}
        return tensors, {"params": self.get_params(deep=False), "image_shape": list(self.image_shape_)}

    @classmethod
    def from_state(cls, tensors: dict[str, Array], config: dict[str, Any]) -> Self:
        """Return the features that `to_state` described."""
        made = cls(**config["params"])
        for name in cls.learnt:
            setattr(made, f"{name}_", tensors[name])
        height, width, channels = config["image_shape"]
        made.image_shape_ = height, width, channels
        made._restore()
        made.n_features_ = made._rows(np.zeros((1, height, width, channels), np.uint8)).shape[1]
        return made

    @property
    def _n_features_out(self) -> int:
        return self.n_features_

    def _at_once(self) -> int:
        """Return how many images are computed at once."""
        return self.batch

    def _learn(self, x_NHWC: Bytes) -> None:
        """Check the settings against the images, and learn."""

    def _restore(self) -> None:
        """Make what `_rows` needs of the settings and the arrays learnt."""

    @abstractmethod
    def _rows(self, x_NHWC: Bytes) -> Features:
        """Return the rows of a batch."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def images(x: ArrayLike) -> Bytes:
    """Return images as (N, H, W, C) uint8; raises InputError for anything else, and for none.

    >>> images(np.zeros((2, 8, 8), np.uint8)).shape
    (2, 8, 8, 1)
    """
    x_NHWC = np.asarray(x)
    if x_NHWC.ndim == 3:
        x_NHWC = x_NHWC[..., None]
    if x_NHWC.dtype != np.uint8 or x_NHWC.ndim != 4 or x_NHWC.shape[3] not in (1, 3):
        raise InputError(
            f"Images of shape {np.shape(x)} and type {x_NHWC.dtype} given; expected (N, H, W), (N, H, W, 1) or "
            "(N, H, W, 3) uint8."
        )
    if not x_NHWC.size:
        raise InputError(f"There are no images in an array of shape {np.shape(x)}; give at least one.")
    return x_NHWC


def under(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """Return those of some named tensors that are called `prefix`.NAME, by NAME.

    >>> under("0", {"0.words": 1, "1.words": 2})
    {'words': 1}
    """
    return {name.removeprefix(f"{prefix}."): v for name, v in tensors.items() if name.startswith(f"{prefix}.")}


def at_least(name: str, value: object, least: int) -> int:
    """Return a whole number that a setting must be; raises SettingError where it is not, or too small."""
    if not (isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least):
        raise SettingError(f"{name} = {value!r} cannot be; give a whole number of at least {least}.")
    return int(value)
