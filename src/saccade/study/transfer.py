"""Transfer, first cell: a linear classifier on the features of a pretrained network, all computed once (lecture 7)."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from saccade.classifiers.linear import LinearClassifier
from saccade.classifiers.solvers import Optimum
from saccade.data.parts import Part
from saccade.events import Progress, emit
from saccade.metrics import log_loss
from saccade.nn import zoo
from saccade.nn.transfer import Transfer
from saccade.train.forward import Forward

PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
UNSEEN = 10.0
"""How far the score of a class without training images is kept below the lowest bias of the others."""
BLOCK = 256

Features = NDArray[np.float32]
Labelled = tuple[Features, NDArray[np.int64]]


@dataclass(frozen=True)
class Probe:
    """The pretrained network with the head that fits the features best, calibrated, and those features of its images.

    `x_VND` are the features of each view (as it is, mirrored) of the training images, `held_VND` of the
    validation images; `penalty` is the one chosen by the log loss of the latter.
    """

    name: str
    forward: Forward
    x_VND: Features
    y_N: NDArray[np.int64]
    held_VND: Features
    held_y_N: NDArray[np.int64]
    penalty: float

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the features and their labels, by the names they have here."""
        return {"x_VND": self.x_VND, "y_N": self.y_N, "held_VND": self.held_VND, "held_y_N": self.held_y_N}

    def predict(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the validation labels predicted after training on some of the training images alone."""
        y_N = self.y_N[indices]
        if len(np.unique(y_N)) < 2:
            return np.full(len(self.held_y_N), y_N[0])
        model = LinearClassifier(strength=self.penalty).fit(*_stacked(self.x_VND[:, indices], y_N))
        predicted_N: NDArray[np.int64] = model.predict(self.held_VND.mean(0))
        return predicted_N

    def refitted(self, seconds: float | None = None) -> Forward | None:
        """Return the network with a head of the same penalty, fitted to training and validation images together.

        None where that would take more than so many seconds.
        """
        x_VND, y_N = np.concatenate([self.x_VND, self.held_VND], 1), np.concatenate([self.y_N, self.held_y_N])
        model = LinearClassifier(strength=self.penalty, solver=Optimum(time_limit=seconds)).fit(*_stacked(x_VND, y_N))
        return None if model.stopped_ == "time" else with_head(self.forward, model)


def probe(forward: Forward, train: Part, validation: Part, *, name: str, seconds: float | None = None) -> Probe:
    """Return the linear classifier on a pretrained network's features whose penalty suits the validation images best.

    Features are of each image and, where `forward.views`, of its mirror image; `seconds` is a limit on
    finding the heads, not on computing the features.
    """
    x_VND = features(forward, train, task="features")
    held_VND = features(forward, validation, task="features of validation")
    return probe_of(forward, (x_VND, train.labels_N), (held_VND, validation.labels_N), name=name, seconds=seconds)


def probe_of(
    forward: Forward, train: Labelled, validation: Labelled, *, name: str, seconds: float | None = None
) -> Probe:
    """Return the same from features x_VND and labels y_N, of the training and of the validation images."""
    (x_VND, y_N), (held_VND, held_y_N) = train, validation
    heads = LinearClassifier(solver=Optimum(time_limit=seconds)).fit_path(*_stacked(x_VND, y_N), PENALTIES)
    losses = [_log_loss(head, held_VND.mean(0), held_y_N) for head in heads]
    best = heads[int(np.argmin(losses))]
    tuned = with_head(forward, best)
    tuned = tuned.calibrated(log_probabilities(tuned, held_VND), held_y_N)
    return Probe(name, tuned, x_VND, y_N, held_VND, held_y_N, float(best.strength))


def features(forward: Forward, part: Part, *, task: str) -> Features:
    """Return a part's features (V, N, D), of the trunk or its stages; V = 2 with the mirror images. Tells progress."""
    network, body = forward.network, body_of(forward)
    assert isinstance(network, torch.nn.Sequential)
    views: list[list[NDArray[np.float32]]] = [[] for _ in range(1 + forward.views)]
    done = 0
    for block in np.array_split(np.arange(len(part)), -(-len(part) // BLOCK)):
        for x_NHWC in forward.images(part.select(block)).split(forward.batch):
            with forward.evaluating():
                x_NCHW = network[0](forward.to_input(x_NHWC)).contiguous(memory_format=torch.channels_last)
                for place, view in enumerate(views):
                    with forward.computing():
                        view.append(body.features(x_NCHW.flip(3) if place else x_NCHW).cpu().numpy())
        done += len(block)
        emit(Progress(task=task, done=done, total=len(part), unit="images"))
    return np.stack([np.concatenate(view) for view in views])


@torch.no_grad()
def with_head(forward: Forward, linear: LinearClassifier) -> Forward:
    """Return the same network, its trunk shared, under the head that a linear classifier of its features is.

    W of standardised features becomes W / scale, and b becomes b - (W / scale) mean. Labels are class indices.
    """
    body = body_of(forward)
    weights_KD = linear.weights_ / linear.scale_
    bias_K = linear.bias_ - weights_KD @ linear.mean_
    head = torch.nn.Linear(body.head.in_features, body.head.out_features).to(forward.device)
    head.weight.zero_()
    head.bias.fill_(float(bias_K.min()) - UNSEEN)
    known = torch.from_numpy(np.asarray(linear.classes_, np.int64))
    head.weight[known] = torch.from_numpy(weights_KD).to(head.weight)
    head.bias[known] = torch.from_numpy(bias_K).to(head.bias)
    return replace(forward, network=zoo.with_body(forward.network, body.under(head)))


def log_probabilities(forward: Forward, x_VND: Features) -> NDArray[np.float64]:
    """Return log-probabilities (N, K) from features (V, N, D): the softmax of the scores averaged over views."""
    head = body_of(forward).head
    weights_KD, bias_K = (parameter.detach().cpu().double().numpy() for parameter in (head.weight, head.bias))
    scores_NK = (x_VND.mean(0, dtype=np.float64) @ weights_KD.T + bias_K) / forward.temperature
    return np.asarray(scores_NK - logsumexp(scores_NK, axis=1, keepdims=True))


def body_of(forward: Forward) -> Transfer:
    """Return the pretrained trunk and its head, without the preprocessing before them."""
    body = zoo.body(forward.network)
    assert isinstance(body, Transfer)
    return body


def _stacked(x_VND: Features, y_N: NDArray[np.int64]) -> tuple[Features, NDArray[np.int64]]:
    """Return every view of every image as one of its own, with its label."""
    return x_VND.reshape(-1, x_VND.shape[-1]), np.tile(y_N, len(x_VND))


def _log_loss(head: LinearClassifier, x_ND: Features, y_N: NDArray[np.int64]) -> float:
    """Return the log loss of a head that may not have seen every class; one that it has not has probability 0."""
    probabilities_NK = np.zeros((len(y_N), int(max(head.classes_.max(), y_N.max())) + 1))
    probabilities_NK[:, head.classes_] = head.predict_proba(x_ND)
    return log_loss(probabilities_NK, y_N)
