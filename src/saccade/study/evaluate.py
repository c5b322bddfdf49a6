"""The numbers of one look at labelled images: accuracy with its interval, per class, confusions, mistakes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import metrics

MISTAKES = 24  # as many as fit on a page


def evaluate(
    probabilities_NK: NDArray[Any],
    labels_N: NDArray[np.int64],
    classes: Sequence[str],
    keys: Sequence[str],
    groups_N: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return the result of predictions on labelled images, as plain values ready for JSON.

    Probabilities (N, K) in the order of `classes`, `labels_N` as indices into them, `keys` the images' names,
    `groups_N` numbers those that belong together: the accuracy's interval counts groups then (`accuracy_interval`).
    The prediction is the most probable class; mistakes come most confident first, equal ones by name.

    >>> probabilities_NK = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    >>> found = evaluate(probabilities_NK, np.array([0, 1, 1]), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"])
    >>> found["confusion"], found["mistakes"]
    ([[1, 0], [1, 1]], [{'path': 'c.jpg', 'label': 'dog', 'predicted': 'cat', 'probability': 0.7}])
    """
    predicted_N = probabilities_NK.argmax(1)
    confusion = metrics.confusion_KK(predicted_N, labels_N, len(classes))
    error, bins = metrics.calibration(probabilities_NK, labels_N)
    return {
        **metrics.judged(predicted_N == labels_N, groups_N),
        "macro_f1": metrics.macro_f1(confusion),
        "calibration_error": error,
        "log_loss": metrics.log_loss(probabilities_NK, labels_N),
        "per_class": [
            {"class": name, **asdict(row)} for name, row in zip(classes, metrics.per_class(confusion), strict=True)
        ],
        "confusion": confusion.tolist(),
        "calibration": [asdict(row) for row in bins],
        "mistakes": _mistakes(probabilities_NK, labels_N, classes, keys),
    }


def _mistakes(
    probabilities_NK: NDArray[Any], labels_N: NDArray[np.int64], classes: Sequence[str], keys: Sequence[str]
) -> list[dict[str, Any]]:
    predicted_N, confidence_N = probabilities_NK.argmax(1), probabilities_NK.max(1)
    wrong = sorted(np.flatnonzero(predicted_N != labels_N).tolist(), key=lambda i: (-confidence_N[i], keys[i]))
    return [
        {
            "path": keys[i],
            "label": classes[labels_N[i]],
            "predicted": classes[predicted_N[i]],
            "probability": float(confidence_N[i]),
        }
        for i in wrong[:MISTAKES]
    ]
