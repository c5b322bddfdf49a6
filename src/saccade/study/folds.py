"""Cross-validation of the classical classifiers, the work shared between folds and settings (lecture 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.classifiers.distances import nearest
from saccade.classifiers.inputs import flat
from saccade.classifiers.kernels import Metric
from saccade.classifiers.neighbors import vote
from saccade.errors import InputError
from saccade.events import Progress, emit

Array = NDArray[Any]


@dataclass(frozen=True)
class Setting:
    """One setting of a classifier: what was predicted for every image by the models that did not see its fold.

    `accuracies` has a number a fold; `mean` and `sd` (of a sample, n - 1) are over them. `temperature` is what
    scores are to be divided by before the softmax, as the held-out images say; of a softmax it is 1.
    """

    values: Mapping[str, Any]
    predicted_N: NDArray[np.int64]
    accuracies: tuple[float, ...]
    temperature: float = 1.0

    @property
    def mean(self) -> float:
        """The mean accuracy over the folds."""
        return float(np.mean(self.accuracies))

    @property
    def sd(self) -> float:
        """The standard deviation of the accuracies of the folds."""
        return float(np.std(self.accuracies, ddof=1))


def best(settings: Sequence[Setting]) -> Setting:
    """Return the setting of the highest mean accuracy; of equal ones the first."""
    return max(settings, key=lambda setting: setting.mean)


def neighbors(
    x: Array, y_N: NDArray[np.int64], fold_N: NDArray[np.int64], metric: Metric, ks: Sequence[int]
) -> list[Setting]:
    """Return a Setting for each k of k nearest neighbours, from one search for all of them.

    Each image is compared once with every image outside its fold; the nearest max(ks) answer every k.
    Raises InputError where a fold leaves fewer images than the largest k, or the folds are none.
    """
    x_ND = np.asarray(flat(x))
    folds = parted(y_N, fold_N)
    labels_Nk = np.empty((len(x_ND), max(ks)), np.int64)
    for done, (train, held) in enumerate(folds):
        emit(Progress(task=f"neighbours by {metric.upper()}", done=done, total=len(folds), unit="folds"))
        if len(train) < max(ks):
            raise InputError(f"k = {max(ks)} neighbours cannot be found among {len(train)} images of the other folds.")
        labels_Nk[held] = y_N[train][nearest(x_ND[held], x_ND[train], max(ks), metric)[1]]
    return [setting_of({"k": int(k)}, vote(labels_Nk[:, :k]), y_N, fold_N) for k in ks]


def parted(y_N: NDArray[np.int64], fold_N: NDArray[np.int64]) -> list[tuple[Array, Array]]:
    """Return the images to train on and those held out, for each fold. Raises InputError where the folds are none."""
    numbers = np.unique(fold_N)
    if len(numbers) < 2 or len(y_N) != len(fold_N):
        raise InputError(
            f"{len(y_N)} labels and {len(fold_N)} numbers of {len(numbers)} folds given; "
            "expected a number an image, and two folds or more."
        )
    return [(np.flatnonzero(fold_N != number), np.flatnonzero(fold_N == number)) for number in numbers]


def setting_of(
    values: Mapping[str, Any], predicted_N: NDArray[np.int64], y_N: NDArray[np.int64], fold_N: NDArray[np.int64]
) -> Setting:
    """Return the setting that has these values, of what was predicted for every image."""
    right_N = predicted_N == y_N
    return Setting(values, predicted_N, tuple(float(right_N[fold_N == n].mean()) for n in np.unique(fold_N)))
