"""Bags of visual words: which of a codebook's small patterns an image is made of, and roughly where."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from saccade.device import derived_seed, resolve_device, resolve_precision
from saccade.errors import InputError, SettingError, did_you_mean
from saccade.features.base import Bytes, Features, ImageFeatures, at_least
from saccade.features.clusters import kmeans
from saccade.features.hog import blocks, cell_histograms
from saccade.features.triangles import triangles

DESCRIPTORS = ("patches", "whitened", "gradients")
ASSIGNMENTS = ("hard", "soft", "triangle")
FLAT = 400.0  # variance of grey values below which a patch counts as flat: texture stays told from noise
RIDGE = 0.3  # added to the variances that whitening divides by, whose mean is 1: JPEG leaves little in half of them
ROWS_A_WORD, FEWEST_ROWS = 75, 60_000  # descriptors that the codebook is learnt from
STEPS = 20  # of k-means: the inertia is then 0.3 % above scikit-learn's (benchmarks/features.py)
PER_IMAGE = 20  # of them from one image, or more where there are few images
ENTRIES = 1 << 22  # distances held at once, which is 16 MB


class VisualWords(ImageFeatures):
    """How much of each visual word lies in each of `cells` x `cells` parts of an image (lecture 3).

    Descriptors are taken every `stride` pixels: "patches" of `patch` x `patch` pixels, brightness and
    contrast evened out; "whitened" are such patches, decorrelated (ZCA); "gradients" are normalised blocks of
    4 x 4 cells of oriented gradients, `patch` pixels a side, a cell apart. The words are `words` centres of
    k-means over descriptors of random places. Each descriptor is assigned to words, and the assignments are averaged:
    "hard" to its nearest alone; "soft" by exp(-d^2 / 2 s^2), shares summing to 1, s^2 the mean squared
    distance to the nearest word (van Gemert et al., 2008); "triangle" by max(0, mean distance - d), which
    keeps about half of the words, and is the strongest (Coates and Ng, "Learning feature representations
    with k-means", 2012). The codebook is drawn by `seed`.

    >>> x = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), np.uint8)
    >>> VisualWords(words=5, cells=1, assignment="hard").fit_transform(x).sum(1).round(3)[:3]
    array([1., 1., 1.], dtype=float32)
    """

    learnt = ("words", "mean", "whitening", "spread")
    words_: Features
    mean_: Features
    whitening_: Features
    spread_: Features
    inertia_: float

    def __init__(
        self,
        words: int = 400,
        patch: int = 6,
        stride: int = 1,
        descriptor: str = "whitened",
        assignment: str = "triangle",
        cells: int = 2,
        seed: int = 0,
    ) -> None:
        self.words = words
        self.patch = patch
        self.stride = stride
        self.descriptor = descriptor
        self.assignment = assignment
        self.cells = cells
        self.seed = seed

    def _learn(self, x_NHWC: Bytes) -> None:
        self._check(x_NHWC)
        z_ND = self._sample(x_NHWC)
        if len(z_ND) < self.words:
            raise InputError(
                f"{self.words} words cannot be learnt from {len(z_ND)} descriptors; give fewer words or more images."
            )
        self.mean_, self.whitening_ = _whitening(z_ND) if self.descriptor == "whitened" else _unchanged(z_ND.shape[1])
        white_ND = np.asarray((z_ND - self.mean_) @ self.whitening_, np.float32)
        found = kmeans(white_ND, self.words, seed=derived_seed(self.seed, "words"), steps=STEPS)
        self.words_, self.inertia_ = found.centres_KD, found.inertia
        self.spread_ = np.array([max(found.inertia / len(z_ND), 1e-12)], np.float32)
        self._restore()

    def _check(self, x_NHWC: Bytes) -> None:
        for name, known in (("descriptor", DESCRIPTORS), ("assignment", ASSIGNMENTS)):
            if (given := getattr(self, name)) not in known:
                hint = did_you_mean(str(given), known)
                raise SettingError(f'There is no {name} "{given}"; give {" or ".join(known)}.{hint}')
        for name in ("words", "patch", "stride", "cells"):
            at_least(name, getattr(self, name), 1)
        side, patch = min(x_NHWC.shape[1:3]), self.patch
        if self.descriptor == "gradients" and patch % 4:
            raise SettingError(f"Gradients lie in 4 x 4 cells, so patch = {patch} must be a multiple of 4.")
        places = (side - patch) // self._step() + 1 if side >= patch else 0
        if places < self.cells:
            raise SettingError(
                f"Images of {x_NHWC.shape[1]} x {x_NHWC.shape[2]} pixels hold {places} patches of {patch} pixels a "
                f"side, and cells = {self.cells}; give a smaller patch, stride or cells."
            )

    def _step(self) -> int:
        """Return the pixels from one descriptor to the next: whole cells of gradients."""
        return self.patch // 4 if self.descriptor == "gradients" else self.stride

    def _restore(self) -> None:
        device = resolve_device()
        parts = (self.words_.T, self.mean_, self.whitening_)
        words_DK, mean_D, whitening_DD = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts)
        # The nearest word is told by small differences; triangles are averages, in which roundings go under.
        dtype = resolve_precision("auto", device) if self.assignment == "triangle" else torch.float32
        self._tensors = words_DK.to(dtype), words_DK.square().sum(0), mean_D, whitening_DD

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_tensors"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "words_"):
            self._restore()

    def _sample(self, x_NHWC: Bytes) -> Features:
        """Return descriptors of random places, about as many of each image, as many as the words need."""
        rng = np.random.default_rng(derived_seed(self.seed, "descriptors"))
        wanted = max(ROWS_A_WORD * self.words, FEWEST_ROWS)
        order = rng.permutation(len(x_NHWC))[: -(-wanted // PER_IMAGE)]
        a_image = -(-wanted // len(order))
        rows = []
        for start in range(0, len(order), self.batch):
            z_NPD = self._descriptors(x_NHWC[order[start : start + self.batch]]).flatten(1, 2)
            places = z_NPD.shape[1]
            chosen = rng.permuted(np.tile(np.arange(places), (len(z_NPD), 1)), axis=1)[:, :a_image]
            rows.append(z_NPD[torch.arange(len(z_NPD))[:, None], torch.from_numpy(chosen)].flatten(0, 1).numpy())
        return np.concatenate(rows)

    def _descriptors(self, x_NHWC: Bytes) -> Tensor:
        """Return a batch's descriptors (N, rows, columns, D) float32."""
        if self.descriptor == "gradients":
            return torch.from_numpy(blocks(cell_histograms(x_NHWC, 8, self._step()), 4))
        x = torch.from_numpy(np.ascontiguousarray(x_NHWC)).float()
        patches = x.unfold(1, self.patch, self.stride).unfold(2, self.patch, self.stride).flatten(3)
        patches = patches - patches.mean(3, keepdim=True)
        return patches / (patches.square().mean(3, keepdim=True) + FLAT).sqrt()

    def _at_once(self) -> int:
        rows, columns = ((side - self.patch) // self._step() + 1 for side in self.image_shape_[:2])
        return max(1, ENTRIES // (rows * columns * self.words))

    @torch.inference_mode()
    def _rows(self, x_NHWC: Bytes) -> Features:
        words_DK, norms_K, mean_D, whitening_DD = self._tensors
        z = self._descriptors(x_NHWC).to(words_DK.device)
        count, rows, columns = z.shape[:3]
        z_PD = (z.flatten(0, 2) - mean_D) @ whitening_DD
        norms_P = z_PD.square().sum(1)
        products_NRCK = (z_PD.to(words_DK.dtype) @ words_DK).view(count, rows, columns, -1)
        if self.assignment == "triangle" and z_PD.device.type == "cpu":
            pooled = triangles(products_NRCK, norms_P.view(count, rows, columns), norms_K, self.cells)
            return np.ascontiguousarray(pooled.transpose(0, 2, 1)).reshape(count, -1)
        # d^2 = |z|^2 - 2 z w + |w|^2
        squared_PK = products_NRCK.flatten(0, 2).float().mul_(-2).add_(norms_K).add_(norms_P[:, None]).clamp_(min=0)
        shares_PK = self._assigned(squared_PK).view(count, rows, columns, -1)
        averages = F.adaptive_avg_pool2d(shares_PK.permute(0, 3, 1, 2), self.cells)
        return averages.flatten(1).cpu().numpy()

    def _assigned(self, squared_PK: Tensor) -> Tensor:
        """Return how much of each word each descriptor is."""
        if self.assignment == "hard":
            return torch.zeros_like(squared_PK).scatter_(1, squared_PK.argmin(1, keepdim=True), 1.0)
        if self.assignment == "soft":
            return (squared_PK / (-2 * float(self.spread_[0]))).softmax(1)
        distance_PK = squared_PK.sqrt_()
        return distance_PK.neg_().sub_(distance_PK.mean(1, keepdim=True)).relu_()


def _whitening(z_ND: Features) -> tuple[Features, NDArray[np.float32]]:
    """Return the mean and the symmetric matrix (ZCA) after which the rows' covariance is nearly the identity."""
    mean_D = z_ND.mean(0, dtype=np.float64)
    centred = z_ND - mean_D
    values_D, vectors_DD = np.linalg.eigh(centred.T @ centred / len(z_ND))
    whitening = (vectors_DD / np.sqrt(np.maximum(values_D, 0) + RIDGE)) @ vectors_DD.T
    return mean_D.astype(np.float32), whitening.astype(np.float32)


def _unchanged(features: int) -> tuple[Features, Features]:
    return np.zeros(features, np.float32), np.eye(features, dtype=np.float32)
