"""Rare classes: how much each image's loss counts, and how often each image is drawn."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from saccade.data.batches import Balanced, Images, Order
from saccade.errors import SettingError
from saccade.settings import TrainSettings

Loss = Callable[[Tensor, Tensor], Tensor]


def loss_of(settings: TrainSettings, images: Images) -> Loss:
    """Return the cross-entropy of scores (N, K) and labels (N,), or shares (N, K), one value an image (lecture 3).

    Labels are smoothed; with balance=weights each label counts by its class, and so does each share of a mixed one
    (see `class_weights`): Σ_k y_k w_k CE_k, where CE_k is the loss were k the label.
    """
    weights_K = class_weights(labels_of(images, settings.balance)) if settings.balance == "weights" else None

    def loss(scores_NK: Tensor, y: Tensor) -> Tensor:
        weight_N: Tensor | float = 1.0
        if weights_K is not None and y.ndim == 1:
            weight_N = weights_K.to(y.device)[y]
        elif weights_K is not None:
            # Classes after the last that any image is of have no weight, and no share of a label.
            y = y * F.pad(weights_K, (0, y.shape[1] - len(weights_K))).to(y.device)
            weight_N = y.sum(1)
            y = y / weight_N[:, None]
        return weight_N * F.cross_entropy(scores_NK, y, reduction="none", label_smoothing=settings.label_smoothing)

    return loss


def order_of(settings: TrainSettings, images: Images, batch_size: int) -> Order:
    """Return which images make up which batch: each once an epoch, or each class as often as any other."""
    if settings.balance != "sampling":
        return Order(len(images), batch_size, settings.seed)
    return Balanced(len(images), batch_size, settings.seed, labels_of(images, settings.balance))


def class_weights(y_N: Tensor) -> Tensor:
    """Return N / (K n_k) for each of K classes, of which n_k of N images are: all count the same, images 1 on average.

    >>> import torch
    >>> class_weights(torch.tensor([0, 0, 0, 1]))
    tensor([0.6667, 2.0000])
    """
    counts_K = y_N.cpu().bincount()
    return len(y_N) / ((counts_K > 0).sum() * counts_K.clamp(min=1))


def labels_of(images: Images, balance: str) -> Tensor:
    """Return every image's label; raises SettingError where they are known only once an image is read."""
    if images.y_N is None:
        raise SettingError(
            f"balance={balance} needs the label of every image before training, which a data set of one's own does "
            "not tell; leave it out, or train on arrays."
        )
    return images.y_N
