"""Features side by side, each standardised, and kept on disk where a folder is named."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from saccade.errors import InputError
from saccade.features.base import Array, Bytes, Features, ImageFeatures, State, images, under
from saccade.features.cache import fitted, rows
from saccade.features.kinds import described, restored


class Stacked(ImageFeatures):
    """Several kinds of features side by side, each column of mean 0 and standard deviation 1 over the images fitted to.

    A constant column becomes 0. Where they are `mirrored`, the mean of an image's features and its mirror image's
    takes their place, so that what is linear in them answers alike to both. With a folder as `cache`, what each
    kind has learnt and computed is kept there, keyed by content: fitting to the same images again costs the time to
    read it.

    >>> from saccade.features import HOG, ColourHistogram
    >>> x = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    >>> Stacked([ColourHistogram(), HOG(cell=4)]).fit_transform(x).std(0).max().round(3)
    np.float32(1.0)
    """

    parts_: list[ImageFeatures]
    mean_: Features
    scale_: Features

    def __init__(
        self, parts: Sequence[ImageFeatures] = (), mirrored: bool = False, cache: str | Path | None = None
    ) -> None:
        self.parts = parts
        self.mirrored = mirrored
        self.cache = cache

    def fit(self, x: ArrayLike, y: object = None) -> Self:
        """Fit each kind, and the standardisation. Raises InputError where there is no kind to stack."""
        self.fit_transform(x)
        return self

    def fit_transform(self, x: ArrayLike, y: object = None, **_: object) -> Features:
        """Fit, and return the features of the same images, computed once."""
        if not len(self.parts):
            raise InputError("There are no features to stack; give one kind or more.")
        x_NHWC, folder = images(x), None if self.cache is None else Path(self.cache)
        found = [fitted(part, x_NHWC, folder, mirrored=self.mirrored) for part in self.parts]
        self.parts_ = [part for part, _ in found]
        self.image_shape_ = self.parts_[0].image_shape_
        x_ND = np.concatenate([part_ND for _, part_ND in found], axis=1)
        self.n_features_ = x_ND.shape[1]
        self.mean_ = x_ND.mean(0, dtype=np.float64).astype(np.float32)
        x_ND -= self.mean_
        deviation_D = np.sqrt(np.einsum("nd,nd->d", x_ND, x_ND, dtype=np.float64) / len(x_ND))
        self.scale_ = np.where(deviation_D > 1e-7, deviation_D, 1).astype(np.float32)
        x_ND /= self.scale_
        return x_ND

    def transform(self, x: ArrayLike) -> Features:
        """Return x_ND float32, each kind by batches of its own."""
        check_is_fitted(self)
        x_NHWC = images(x)
        x_ND = np.concatenate([rows(part, x_NHWC, self.mirrored) for part in self.parts_], axis=1)
        x_ND -= self.mean_
        x_ND /= self.scale_
        return x_ND

    def to_state(self) -> State:
        """Return the arrays and the plain values of each kind, and the standardisation."""
        check_is_fitted(self)
        tensors: dict[str, Array] = {"mean": self.mean_, "scale": self.scale_}
        configs = []
        for place, part in enumerate(self.parts_):
            state, config = described(part)
            tensors |= {f"{place}.{name}": value for name, value in state.items()}
            configs.append(config)
        return tensors, {"parts": configs, "mirrored": self.mirrored}

    @classmethod
    def from_state(cls, tensors: dict[str, Array], config: dict[str, Any]) -> Self:
        """Return the features that `to_state` described."""
        parts = []
        for place, told in enumerate(config["parts"]):
            parts.append(restored(under(str(place), tensors), told))
        made = cls([type(part)(**part.get_params(deep=False)) for part in parts], config["mirrored"])
        made.parts_, made.mean_, made.scale_ = parts, tensors["mean"], tensors["scale"]
        made.image_shape_, made.n_features_ = parts[0].image_shape_, len(made.mean_)
        return made

    def _rows(self, x_NHWC: Bytes) -> Features:
        return self.transform(x_NHWC)
