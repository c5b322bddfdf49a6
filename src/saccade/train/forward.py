"""A network and how images are put to it: resizing, device, precision, views."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.augment.views import MOVES, view
from saccade.data.parts import Part
from saccade.device import generator, resolve_device, resolve_precision
from saccade.errors import SettingError
from saccade.metrics import best_temperature
from saccade.nn import zoo
from saccade.nn.regularize import regularize
from saccade.nn.transfer import Transfer
from saccade.settings import Interpolation, TrainSettings
from saccade.train.parts import piecewise

CACHED_PIXELS = 400_000


@dataclass(frozen=True)
class Forward:
    """`network` gives scores (N, K) for images (N, C, side, side) in 0…255, computed on `device` in `precision`.

    Where `views`, predictions are averaged over each image and its mirror image; over `further` draws of `moves`,
    augmentations that move pixels by their strengths, too, every other one mirrored. Scores are divided by
    `temperature` before the softmax (see `calibrated`).
    """

    network: nn.Module
    side: int
    views: bool = False
    device: torch.device = field(default_factory=resolve_device)
    precision: torch.dtype = torch.float32
    temperature: float = 1.0
    further: int = 0
    interpolation: Interpolation = "bilinear"
    moves: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module, settings: TrainSettings) -> "Forward":
        """Return it with what resolved settings say, the network given its rates of dropout and moved to its device.

        Raises SettingError where the network has nothing that a rate is for, and where settings have no size.
        """
        if settings.size is None:
            raise SettingError("The settings do not say of what side images are; give size, such as 64.")
        body = zoo.body(network)
        regularize(body, settings)
        if isinstance(body, Transfer):
            body.freeze(round(settings.frozen * len(body.layers())))
        device = resolve_device(settings.device)
        network.to(device).to(memory_format=torch.channels_last)
        precision = resolve_precision(settings.precision, device)
        given = {"translate": settings.translate, **settings.augment}
        moves = {name: strength for name, strength in given.items() if name in MOVES and strength}
        if settings.test_views > 1 and not moves:
            raise SettingError(
                "test_views moves images as training does, and training moves none: give translate or augment.rotate."
            )
        views, further, how = bool(settings.views), settings.test_views - 1, settings.interpolation
        return cls(network, settings.size, views, device, precision, further=further, interpolation=how, moves=moves)

    def images(self, part: Part) -> Tensor:
        """Return a part's images as the network is given them: x_NHWC uint8, on the CPU."""
        return torch.from_numpy(part.squares(self.side, self.interpolation))

    def to_input(self, x: Tensor, side: int | None = None) -> Tensor:
        """Turn uint8 images (N, H, W, C) into float ones (N, C, side, side) on the device, still in 0…255.

        What is not uint8 is taken to be input already.
        """
        if x.dtype != torch.uint8:
            return x.to(self.device)
        side = side or self.side
        x_NCHW = x.to(self.device).permute(0, 3, 1, 2).float()
        if x_NCHW.shape[-1] == side:
            return x_NCHW
        return F.interpolate(x_NCHW, size=(side, side), mode="bilinear", antialias=True)

    def computing(self) -> torch.autocast:
        """Return a context in which products are computed in `precision` and the rest in float32."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Return a context in which the network is in evaluation mode and keeps no gradients; then it is as it was."""
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.network.train(was_training)

    def scores(self, x: Tensor) -> Tensor:
        """Return scores (N, K) float32 in evaluation mode, without gradients."""
        with self.evaluating(), self.computing():
            scores_NK: Tensor = self.network(self.to_input(x))
        return scores_NK.float()

    @property
    def batch(self) -> int:
        """Images predicted at once: 512, or on a CPU as many as its caches hold the activations of.

        SqueezeNet's and the ConvNet's predictions are up to twice as fast for it.
        """
        return 512 if self.device.type != "cpu" else max(8, min(512, CACHED_PIXELS // self.side**2))

    def log_probabilities(self, x: Tensor, *, over_views: bool = True) -> Tensor:
        """Return log-probabilities (N, K) on the CPU: the softmax of the scores averaged over views.

        Of `batch` images at once, or of half as many each time memory runs out.
        """

        def rows(chunk: Tensor) -> Tensor:
            x_NCHW = self.to_input(chunk)
            scores_NK = self.scores(x_NCHW)
            if over_views and (self.views or self.further):
                seen = [scores_NK, *map(self.scores, self._views(x_NCHW))]
                scores_NK = torch.stack(seen).sum(0) / len(seen)
            return (scores_NK / self.temperature).log_softmax(1).cpu()

        return piecewise(rows, x, self.batch)

    def _views(self, x_NCHW: Tensor) -> Iterator[Tensor]:
        """Yield what is predicted from beside each image itself."""
        if self.views:
            yield x_NCHW.flip(3)
        for number in range(self.further):
            draws = generator(0, "view", number)
            x_NHWC = view(x_NCHW.permute(0, 2, 3, 1), self.moves, draws)
            moved_NCHW = x_NHWC.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
            yield moved_NCHW.flip(3) if self.views and number % 2 else moved_NCHW

    def calibrated(self, log_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> "Forward":
        """Return the same with the temperature at which log-probabilities (N, K) of its own fit the labels best.

        One number, fitted on validation images, which changes no prediction (see `metrics.best_temperature`).
        """
        return replace(self, temperature=self.temperature * best_temperature(log_NK, labels_N))
