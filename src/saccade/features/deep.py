"""Deep features: what a network trained on other images makes of these, at its end or at any stage before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from saccade.device import resolve_device, resolve_precision
from saccade.errors import ModelError
from saccade.features.base import Bytes, Features, ImageFeatures, State, at_least, under
from saccade.nn import pretrained, trunks, zoo
from saccade.nn.published import Pretrained
from saccade.nn.stages import END, check_stages, stage_names, staged
from saccade.settings import TrainSettings

PIXELS = 400_000
"""Of the images that go through a network at once on a CPU: as many as its caches hold the activations of."""


class DeepFeatures(ImageFeatures):
    """The features of a pretrained network, any that `saccade models` lists, from any stage (lecture 7).

    `network` is what --pretrained takes: NAME, FILE or NAME=FILE. `stage` names one of its modules, as
    `stages()` lists them; the default is the network's end, without its head. Maps are averaged over the
    image. Images are resized to `size` pixels a side, the network's own where None. `precision` is that of
    `saccade train`. What is saved has the weights, and needs neither name nor file again.
    """

    def __init__(
        self, network: str = "resnet18", stage: str | None = None, size: int | None = None, precision: str = "auto"
    ) -> None:
        self.network = network
        self.stage = stage
        self.size = size
        self.precision = precision

    def stages(self) -> list[str]:
        """Return the names that `stage` may have, in the order of the network."""
        weights = pretrained.find(self.network)
        return stage_names(pretrained.load(_there(weights, self.network)))

    def to_state(self) -> State:
        """Return the trunk's weights, and what is needed to build it again."""
        tensors, config = super().to_state()
        state = self.trunk_.state_dict()
        own = {f"trunk.{name}": value.cpu().contiguous().numpy() for name, value in state.items()}
        return {**tensors, **own}, {
            **config,
            "model": self.model_,
            "own": self.own_,
            "side": self.side_,
            "mean": self.mean_,
            "sd": self.sd_,
            "interpolation": self.interpolation_,
        }

    @classmethod
    def from_state(cls, tensors: dict[str, Any], config: dict[str, Any]) -> "DeepFeatures":
        """Return the features that `to_state` described."""
        made = cls(**config["params"])
        built = TrainSettings(model=config["model"], size=config["side"], **config["own"])
        trunk = zoo.trunk_of(built)
        own = under("trunk", tensors)
        trunk.load_state_dict({n: torch.from_numpy(np.require(v, requirements=["C", "W"])) for n, v in own.items()})
        expected = config["mean"], config["sd"], config.get("interpolation", "bilinear")
        made._take(trunk, config["model"], config["side"], expected)
        made.own_ = config["own"]
        height, width, channels = config["image_shape"]
        made.image_shape_ = height, width, channels
        made.n_features_ = made._rows(np.zeros((1, height, width, channels), np.uint8)).shape[1]
        return made

    def _learn(self, x_NHWC: Bytes) -> None:
        if self.size is not None:
            at_least("size", self.size, 1)
        weights = _there(pretrained.find(self.network), self.network)
        trunk = pretrained.load(weights)
        check_stages(trunk, [self.stage or END])
        side = weights.size if weights.settings else self.size or weights.size
        self.own_ = dict(weights.settings)
        trunks.features(trunk, side)
        self._take(trunk, weights.model, side, (weights.mean, weights.sd, weights.interpolation))

    def _take(
        self, trunk: nn.Module, model: str, side: int, expected: tuple[Sequence[float], Sequence[float], str]
    ) -> None:
        self.device_ = resolve_device()
        self.dtype_ = resolve_precision(self.precision, self.device_)
        self.trunk_ = trunk.eval().to(self.device_).to(memory_format=torch.channels_last)
        self.model_, self.side_ = model, side
        mean, sd, self.interpolation_ = expected
        self.mean_, self.sd_ = list(mean), list(sd)

    def _at_once(self) -> int:
        return 256 if self.device_.type != "cpu" else max(8, min(256, PIXELS // self.side_**2))

    @torch.inference_mode()
    def _rows(self, x_NHWC: Bytes) -> Features:
        x = (
            torch.from_numpy(np.ascontiguousarray(x_NHWC))
            .to(self.device_)
            .permute(0, 3, 1, 2)
            .float()
            .expand(-1, 3, -1, -1)
        )
        if x.shape[2:] != (self.side_, self.side_):
            size = self.side_, self.side_
            x = F.interpolate(x, size=size, mode=self.interpolation_, antialias=True).clamp(0, 255)
        mean, sd = (torch.tensor(v, device=self.device_).view(1, 3, 1, 1) * 255 for v in (self.mean_, self.sd_))
        x = ((x - mean) / sd).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device_.type, self.dtype_, enabled=self.dtype_ != torch.float32):
            [rows] = staged(self.trunk_, x, [self.stage or END])
        return rows.float().cpu().numpy()


def _there(weights: Pretrained | None, text: str) -> Pretrained:
    if weights is None:
        raise ModelError(f'"{text}" is no pretrained network at hand; give a NAME, a FILE or NAME=FILE.')
    return weights
