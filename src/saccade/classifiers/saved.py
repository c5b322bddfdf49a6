"""A trained classifier with all that prediction needs, and the one table that saves and loads every kind."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from saccade.classifiers.featured import FeatureClassifier
from saccade.classifiers.linear import LinearClassifier
from saccade.classifiers.neighbors import KNearestNeighbors
from saccade.classifiers.network import NetworkClassifier
from saccade.data import Part, decode, square
from saccade.data.decode import decode_image
from saccade.data.scale import Fit
from saccade.device import computing_on, resolve_device
from saccade.errors import DecodeError, DeviceError, InputError, RunError, SettingError, out_of_memory
from saccade.events import Progress, emit
from saccade.features.base import under
from saccade.files import read_pair, write_pair
from saccade.settings import Interpolation

BLOCK = 1024
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError, SafetensorError)
"""What reading a model's files raises where they are not what `save` wrote; a device that fails may raise them, too."""

Tensors = dict[str, NDArray[Any]]
Squares = Callable[[int, Interpolation], NDArray[np.uint8]]


class Classifier(Protocol):
    """What is asked of a classifier: scikit-learn's prediction, and a state with no code in it.

    `classes_` are the labels it was trained on, indices into the model's classes.
    """

    classes_: NDArray[np.int64]

    def predict_proba(self, x: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return probabilities (N, K) for images (N, S, S, 3)."""
        ...

    def to_state(self) -> tuple[Tensors, dict[str, Any]]:
        """Return tensors, and plain values, from which `from_state` makes the same classifier."""
        ...

    @classmethod
    def from_state(cls, tensors: Tensors, config: dict[str, Any]) -> Self:
        """Return the classifier that `to_state` described."""
        ...


KINDS: Mapping[str, type[Classifier]] = {
    "neighbors": KNearestNeighbors,
    "linear": LinearClassifier,
    "features": FeatureClassifier,
    "network": NetworkClassifier,
}


@dataclass(frozen=True)
class Prediction:
    """The classes an image is likeliest to show, most probable first; or, where it cannot be read, the reason."""

    path: str | None
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Member:
    """A classifier of square images of `size` pixels; `name` is what people call it, `weight` its share of a say.

    `how` says how images are resized to that size.
    """

    name: str
    classifier: Classifier
    size: int
    weight: float = 1.0
    how: Interpolation = "bilinear"

    @classmethod
    def of(cls, name: str, network: NetworkClassifier) -> "Member":
        """Return a network as a member, which sees images as it was trained on them."""
        return cls(name, network, network.forward_.side, how=network.forward_.interpolation)

    @property
    def sight(self) -> tuple[int, Interpolation]:
        """What `squares` is asked for: the side of its images, and how they are resized to it."""
        return self.size, self.how


@dataclass(frozen=True)
class Model:
    """One classifier, or several whose probabilities are averaged by weight, with the classes by name.

    `fit_to_square` says how images that are not square become it; `weights` have the `source` and the `licence` of
    pretrained weights that a member began with, if any.

    >>> x_NHWC = np.repeat(np.array([0, 9, 255], np.uint8), 12).reshape(3, 2, 2, 3)
    >>> near, vote = (KNearestNeighbors(k=k).fit(x_NHWC, [0, 0, 1]) for k in (1, 3))
    >>> model = Model((Member("1-NN", near, 2), Member("3-NN", vote, 2, weight=2.0)), ("dark", "bright"), "stretch")
    >>> model.probabilities(lambda side, how: x_NHWC).round(2).tolist()
    [[0.78, 0.22], [0.78, 0.22], [0.44, 0.56]]
    """

    members: tuple[Member, ...]
    classes: tuple[str, ...]
    fit_to_square: Fit
    weights: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call it: its members' names."""
        return " + ".join(member.name for member in self.members)

    @property
    def size(self) -> int:
        """The largest side in pixels of the images its members see."""
        return max(member.size for member in self.members)

    def probabilities(self, squares: Squares) -> NDArray[np.float64]:
        """Return probabilities (N, K) for images of which `squares(side, how)` gives (N, side, side, 3) uint8."""
        return self.averaged(self.by_member(squares))

    def by_member(self, squares: Squares) -> NDArray[np.float64]:
        """Return each member's probabilities (M, N, K), as `probabilities` averages them."""
        x_NHWC = {sight: squares(*sight) for sight in {member.sight for member in self.members}}
        return np.stack([self._of_member(member, x_NHWC[member.sight]) for member in self.members])

    def averaged(self, rows_MNK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weighted average (N, K) of the members' probabilities."""
        total = sum(member.weight for member in self.members)
        rows = [member.weight / total * row_NK for member, row_NK in zip(self.members, rows_MNK, strict=True)]
        return np.asarray(np.sum(rows, axis=0))

    def _of_member(self, member: Member, x_NHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
        known_N = member.classifier.classes_  # a class without training images is never predicted
        probabilities_NK = np.zeros((len(x_NHWC), len(self.classes)))
        probabilities_NK[:, known_N] = member.classifier.predict_proba(x_NHWC)
        return probabilities_NK

    def probabilities_of(self, part: Part) -> NDArray[np.float64]:
        """Return probabilities (N, K) for a part's images, a block of them in memory at a time; tells its progress."""
        return self.averaged(self.by_member_of(part))

    def by_member_of(self, part: Part) -> NDArray[np.float64]:
        """Return each member's probabilities (M, N, K) for a part's images, as `probabilities_of` averages them."""
        rows, done = [], 0
        for block in np.array_split(np.arange(len(part)), max(1, math.ceil(len(part) / BLOCK))):
            rows.append(self.by_member(part.select(block).squares))
            done += len(block)
            emit(Progress(task="predict", done=done, total=len(part), unit="images"))
        return np.concatenate(rows, axis=1)

    def predict(
        self, images: Iterable[str | Path | NDArray[Any] | Image.Image], *, top: int | None = None
    ) -> list[Prediction]:
        """Return a Prediction for each image, in order, with its `top` (default: all) most probable classes.

        An image is a file's path, pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8, or a Pillow image.
        One that cannot be read gets a Prediction with an `error`; nothing is raised for it. Raises
        InputError where a single image is given instead of several, SettingError for a `top` below 1.
        """
        if top is not None and top < 1:
            raise SettingError(f"top = {top} is no number of classes to tell; give at least 1, or None for all.")
        if isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", 4) < 4:
            raise InputError("A single image given; expected several: predict([image]).")
        images = list(images)
        predictions = [Prediction(path=str(image) if isinstance(image, str | Path) else None) for image in images]
        for first in range(0, len(images), BLOCK):
            decoded: dict[int, NDArray[np.uint8]] = {}
            for place, image in enumerate(images[first : first + BLOCK], first):
                try:
                    decoded[place] = _pixels(image)
                except DecodeError as error:
                    predictions[place] = replace(predictions[place], error=str(error))
            if decoded:
                rows_NK = self.probabilities(partial(_squares, [*decoded.values()], self.fit_to_square))
                for place, row_K in zip(decoded, rows_NK, strict=True):
                    predictions[place] = replace(predictions[place], **self._likeliest(row_K, top))
        return predictions

    def _likeliest(self, row_K: NDArray[np.float64], top: int | None) -> dict[str, Any]:
        order = np.argsort(-row_K, kind="stable")[:top]
        ranked = tuple((self.classes[k], float(row_K[k])) for k in order)
        return {"label": ranked[0][0], "probability": ranked[0][1], "top": ranked}

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, and `model.json` with its checksum, both or neither: see `write_pair`."""
        tensors: Tensors = {}
        described = []
        for place, member in enumerate(self.members):
            state, config = member.classifier.to_state()
            tensors |= {f"{place}.{name}": np.ascontiguousarray(value) for name, value in state.items()}
            kind = next(name for name, kind in KINDS.items() if type(member.classifier) is kind)
            own = {"name": member.name, "size": member.size, "interpolation": member.how, "weight": member.weight}
            described.append({"kind": kind, **own, "config": config})
        description = {
            "schema": 2,
            "name": self.name,
            "classes": list(self.classes),
            "fit_to_square": self.fit_to_square,
            "members": described,
            "weights": dict(self.weights),
        }
        write_pair(folder / "model", save(tensors), description)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> "Model":
        """Read what `save` wrote, to be computed on a device; nothing in the files is executed.

        Raises RunError when a file is missing, damaged, or of a kind this version does not know; DeviceError where the
        device is unknown, or fails though the files are whole.
        """
        with computing_on(device):
            try:
                return cls._read(folder)
            except (RunError, DeviceError):
                raise
            except DAMAGE as error:
                reason = shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …")
                if device != "cpu":
                    cls.load(folder, "cpu")  # or the files are at fault
                    told = f'The model in {folder} is whole, but fails on the device "{resolve_device()}" ({reason})'
                    raise DeviceError(f"{told}; give --device cpu.") from error
                if out_of_memory(error):
                    raise
                raise RunError(f"The model in {folder} cannot be loaded ({reason}).") from error

    @classmethod
    def _read(cls, folder: Path) -> "Model":
        description, data = read_pair(folder / "model")
        if not description["members"] or not description["classes"]:
            raise ValueError("model.json names no members, or no classes")
        tensors = load(data)
        return cls(
            members=tuple(_member(place, each, tensors) for place, each in enumerate(description["members"])),
            classes=tuple(description["classes"]),
            fit_to_square=description["fit_to_square"],
            weights=description["weights"],
        )


def _member(place: int, described: dict[str, Any], tensors: Tensors) -> Member:
    classifier = KINDS[described["kind"]].from_state(under(str(place), tensors), described["config"])
    how = described.get("interpolation", "bilinear")  # models without the entry are
    return Member(described["name"], classifier, described["size"], described["weight"], how)


def _squares(images: Sequence[NDArray[np.uint8]], fit: Fit, side: int, how: Interpolation) -> NDArray[np.uint8]:
    return np.stack([square(x_HWC, side, fit, how) for x_HWC in images])


def _pixels(image: str | Path | NDArray[Any] | Image.Image) -> NDArray[np.uint8]:
    """Return an image as training saw images: uint8 RGB (h, w, 3), at the size they are kept."""
    if isinstance(image, str | Path):
        try:
            return decode(Path(image).read_bytes()).x_HWC
        except OSError as error:
            raise DecodeError(error.strerror or str(error)) from error
    return decode_image(image if isinstance(image, Image.Image) else _from_array(np.asarray(image))).x_HWC


def _from_array(x: NDArray[Any]) -> Image.Image:
    if x.dtype != np.uint8 or not x.size or (x.ndim != 2 and (x.ndim != 3 or x.shape[2] not in (1, 3, 4))):
        raise DecodeError(
            f"pixels of shape {x.shape} and type {x.dtype} given; expected (H, W), (H, W, 1), (H, W, 3) or "
            "(H, W, 4) uint8"
        )
    return Image.fromarray(x[:, :, 0] if x.ndim == 3 and x.shape[2] == 1 else x)
