"""k-means: a codebook of `k` centres, found on growing samples, so that few steps see all rows."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saccade.features.base import Features

BLOCK, ENTRIES = 8192, 1 << 21  # rows, and distances, held at once: what stays in a core's cache
GROWTH = 4  # from one sample to the next
SMALLEST = 128  # rows a centre in the first sample
SEEDED = 64  # rows a centre that the first centres are drawn from


@dataclass(frozen=True)
class Codebook:
    """Centres (K, D), the sum of squared distances of all rows to their nearest, and the steps over all rows."""

    centres_KD: Features
    inertia: float
    steps: int


def kmeans(x_ND: Features, k: int, *, seed: int, steps: int = 100, tolerance: float = 2e-5) -> Codebook:
    """Return `k` centres at which Lloyd's steps lower the inertia by less than `tolerance` of it.

    The first centres are drawn far apart (greedy k-means++, Arthur and Vassilvitskii, 2007) from a sample, and
    settle on samples that grow to all rows; a centre that loses its rows moves to the row worst served.
    Needs N >= k.
    """
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.ascontiguousarray(x_ND, np.float32))[torch.from_numpy(rng.permutation(len(x_ND)))]
    centres = _far_apart(x[: max(k, SEEDED * k)], k, rng)
    sizes = [len(x)]
    while sizes[0] > GROWTH * SMALLEST * k:
        sizes.insert(0, sizes[0] // GROWTH)
    for size in sizes:
        inertia, done = np.inf, 0
        while done < steps:
            before, done = inertia, done + 1
            centres, inertia = _step(x[:size], centres)
            if before - inertia <= tolerance * inertia:
                break
    return Codebook(centres.numpy(), sum(float(near.double().sum()) for near, _ in _nearest(x, centres)), done)


def _step(x: Tensor, centres: Tensor) -> tuple[Tensor, float]:
    """Return the means of the rows nearest to each centre, and the inertia of the centres given."""
    k = len(centres)
    sums, counts = torch.zeros(k, x.shape[1], dtype=torch.float64), torch.zeros(k, dtype=torch.int64)
    inertia, worst = 0.0, []
    for block, (near, index) in zip(x.split(_rows_at_once(k)), _nearest(x, centres), strict=True):
        sums += torch.zeros(k, x.shape[1]).index_add_(0, index, block)
        counts += torch.bincount(index, minlength=k)
        inertia += float(near.double().sum())
        worst.append(near)
    means = (sums / counts.clamp(min=1)[:, None]).float()
    if len(empty := (counts == 0).nonzero().flatten()):
        means[empty] = x[torch.cat(worst).topk(len(empty)).indices]
    return means, inertia


def _rows_at_once(k: int) -> int:
    return min(BLOCK, max(256, ENTRIES // k))


def _nearest(x: Tensor, centres: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return, block by block, each row's squared distance to its nearest centre, and which it is."""
    half = centres.square().sum(1) / 2
    found = []
    for block in x.split(_rows_at_once(len(centres))):
        least, index = torch.addmm(half, block, centres.T, alpha=-1).min(1)
        found.append((least.mul_(2).add_(block.square().sum(1)).clamp_(min=0), index))
    return found


def _far_apart(x: Tensor, k: int, rng: np.random.Generator) -> Tensor:
    """Return `k` rows: of some drawn by the square of their distance from those before, the one that leaves least."""
    tries = 2 + int(np.log(k))
    norms = x.square().sum(1)
    chosen = [int(rng.integers(len(x)))]
    nearest = (x - x[chosen[0]]).square().sum(1)
    for _ in range(k - 1):
        total = nearest.double().cumsum(0)
        drawn = torch.from_numpy(rng.random(tries)) * total[-1]
        places = torch.searchsorted(total, drawn, right=True).clamp_(max=len(x) - 1)
        squared = torch.addmm(norms, x[places], x.T, alpha=-2).add_(norms[places, None]).clamp_(min=0)
        left = torch.minimum(nearest, squared)
        best = int(left.sum(1).argmin())
        chosen.append(int(places[best]))
        nearest = left[best]
    return x[chosen]
