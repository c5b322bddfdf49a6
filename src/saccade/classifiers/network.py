"""A trained network as a scikit-learn classifier of images."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from saccade.classifiers.inputs import checked_pair
from saccade.data.batches import ArrayImages
from saccade.errors import InputError, SettingError
from saccade.nn import pretrained, zoo
from saccade.settings import TrainSettings
from saccade.train.budget import Pace
from saccade.train.forward import Forward
from saccade.train.session import Session


class NetworkClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Any network `saccade models` lists, trained on images x (N, H, W, 3) uint8, square, and labels y (N,).

    `settings` are those of `saccade train`, as keywords of TrainSettings, which go before `model` and `epochs`. With
    `pretrained` the network is the one that the weights are of, and a `model` other than the default must be it.

    >>> from sklearn.datasets import load_digits
    >>> x, y = load_digits(return_X_y=True)
    >>> images = (x.reshape(-1, 8, 8, 1) * 15.9).astype("uint8").repeat(3, axis=3)
    >>> classifier = NetworkClassifier(epochs=2, settings={"flip": False}).fit(images[:1000], y[:1000])
    >>> bool(classifier.score(images[1000:], y[1000:]) > 0.8)
    True
    """

    def __init__(self, model: str = "convnet", epochs: float = 10.0, settings: dict[str, Any] | None = None) -> None:
        self.model = model
        self.epochs = epochs
        self.settings = settings

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Train on all the images given.

        Raises SettingError when they are not square uint8 RGB, or the settings ask for validation images or for
        random crops; ModelError when there is no such network, or pretrained weights are of another; InputError,
        which is a ValueError, when there are none, or not one name or whole number for each.
        """
        images = _images(x)
        _, labels = checked_pair(self, images, y)
        self.classes_, labels_N = np.unique(labels, return_inverse=True)
        settings = self._chosen(images.shape[1])
        if settings.epochs is None:
            raise SettingError("There are no epochs given; how long to train is a number of them here, such as 10.")
        if settings.patience is not None or settings.snapshots > 1:
            raise SettingError(
                "There are no validation images here to judge patience and snapshots by: leave them out, or train with "
                "saccade.recipe.train."
            )
        if settings.random_crops:
            raise SettingError(
                "random_crops cuts image files as they are read, and these are arrays: leave it out, or train with "
                "saccade.recipe.train."
            )
        x_NHWC = _tensor(images)
        session = Session.start(
            settings,
            ArrayImages(x_NHWC, torch.from_numpy(labels_N)),
            x_NHWC,
            classes=len(self.classes_),
            names=[f"image {i}" for i in range(len(x_NHWC))],
        )
        for _ in session.run(Pace.fixed(session.steps(settings.epochs))):
            pass
        self.settings_, self.forward_ = session.settings, session.forward
        return self

    def _chosen(self, side: int) -> TrainSettings:
        """Return the settings for images of a side, with the network that pretrained weights are of, if any."""
        plain = {"epochs": self.epochs, "flip": False, "batch_size": 64}
        named = {} if self.model == TrainSettings.model_fields["model"].default else {"model": self.model}
        settings = TrainSettings(**{**plain, **named, **(self.settings or {})})
        weights = None if settings.pretrained is None else pretrained.find(settings.pretrained)
        settings = pretrained.suited(settings, weights)
        return settings if settings.size else settings.model_copy(update={"size": side})

    @classmethod
    def of(cls, forward: Forward, settings: TrainSettings, classes: int) -> Self:
        """Return the classifier around a trained network, for labels 0…classes-1."""
        classifier = cls(settings.model)
        classifier.classes_ = np.arange(classes)
        classifier.settings_, classifier.forward_ = settings, forward
        return classifier

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities (N, K) for square images (N, S, S, 3) uint8, averaged over views.

        Those of another side than the network sees, the setting `size`, are resized to it. Raises SettingError for
        what are no such images.
        """
        check_is_fitted(self)
        log_NK = self.forward_.log_probabilities(_tensor(_images(x)))
        return log_NK.double().softmax(1).numpy()

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each image, of such as `predict_proba` takes."""
        best_N = self.predict_proba(x).argmax(1)
        labels_N: NDArray[Any] = self.classes_[best_N]
        return labels_N

    def to_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the weights, and what is needed to build the network again."""
        check_is_fitted(self)
        state = self.forward_.network.state_dict()
        tensors = {name: value.cpu().contiguous().numpy() for name, value in state.items()}
        return tensors, {
            "classes": self.classes_.tolist(),
            "temperature": self.forward_.temperature,
            "settings": self.settings_.model_dump(mode="json"),
        }

    @classmethod
    def from_state(cls, tensors: dict[str, NDArray[Any]], config: dict[str, Any]) -> Self:
        """Return the classifier that `to_state` described, on the device that `auto` means here, in its precision."""
        settings = TrainSettings(**{**config["settings"], "device": "auto"})
        classes = np.array(config["classes"])
        network = rebuilt(settings, len(classes))
        network.load_state_dict({name: _tensor(value) for name, value in tensors.items()})
        forward = replace(Forward.of(network, settings), temperature=config["temperature"])
        classifier = cls.of(forward, settings, len(classes))
        classifier.classes_ = classes
        return classifier


def rebuilt(settings: TrainSettings, classes: int) -> nn.Module:
    """Return a network of the architecture that resolved settings describe, its weights to be loaded."""
    assert settings.size is not None
    if settings.pretrained is not None:
        return zoo.blank(settings, classes)
    return zoo.from_settings(settings, classes)


def _tensor(x: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor: the same memory, or a copy where it is read-only or not in one piece."""
    return torch.from_numpy(np.require(x, requirements=["C", "W"]))


def _images(x: ArrayLike) -> NDArray[np.uint8]:
    """Return images as one array."""
    try:
        x_NHWC = np.asarray(x)
    except ValueError as error:
        raise InputError("The images are of several shapes; bring them to one, (S, S, 3) uint8.") from error
    shape = x_NHWC.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or x_NHWC.dtype != np.uint8:
        raise SettingError(f"Images of shape {shape} and type {x_NHWC.dtype} given; expected (N, S, S, 3) uint8.")
    return x_NHWC
