"""Faults that can be named before training: of the inputs, the weights, the scores, the order and the labels."""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.data.batches import Batch, Order
from saccade.study.check import Check
from saccade.study.probe import Probe
from saccade.train.rules import LEAST_GRADIENT
from saccade.train.session import Session
from saccade.words import some

LARGEST_INPUT = 10.0
"""Standardised inputs have a root mean square of about 1."""
MOST_DEAD, MOST_SATURATED = 0.9, 0.5
SHIFTS = (-3, -2, -1, 1, 2, 3)
COMPARED = 1500
SURE = 6.0
"""Standard errors by which labels must fit better elsewhere."""


def inputs_scaled(probe: Probe) -> Check:
    """Ask whether the first layer is given standardised inputs, not pixels of 0 to 255 (lecture 6)."""
    return _check(
        "input scale",
        probe.input_rms <= LARGEST_INPUT,
        f"a root mean square of about 1, at the most {LARGEST_INPUT:g}, at the first layer",
        f"{probe.input_rms:.3g} at {probe.first_layer or 'the first layer'}",
        "The network is given unnormalised pixels: subtract the training images' mean and divide by their "
        "standard deviation, or put batch norm first.",
    )


def units_alive(probe: Probe) -> Check | None:
    """Ask whether rectified units answer to some image; None where there are none (lecture 6)."""
    if not probe.dead:
        return None
    name, share = max(probe.dead.items(), key=lambda item: item[1])
    return _check(
        "live units",
        share <= MOST_DEAD,
        f"at most {MOST_DEAD:.0%} of a layer's ReLUs are 0 on every image",
        f"{share:.0%} in {name}",
        f"The units of {name} are dead: no image makes them answer, so no gradient passes; look at the biases and "
        "the initial weights before them, or use He initialisation and batch norm.",
    )


def units_unsaturated(probe: Probe) -> Check | None:
    """Ask whether sigmoids and tanhs work in the middle of their range; None where there are none (lecture 6)."""
    if not probe.saturated:
        return None
    name, share = max(probe.saturated.items(), key=lambda item: item[1])
    return _check(
        "unsaturated units",
        share <= MOST_SATURATED,
        f"at most {MOST_SATURATED:.0%} of a layer's outputs at the ends of their range",
        f"{share:.0%} in {name}",
        f"The units of {name} are saturated, where their gradient is about 0: make the initial weights smaller "
        "(Xavier), normalise, or use ReLU.",
    )


def gradient_reaches(probe: Probe) -> Check | None:
    """Ask whether the gradient arrives at the first layer; None where there is one layer alone."""
    found = [(name, size) for name, size in probe.gradient_rms.items() if size is not None and name.endswith("weight")]
    if len(found) < 2 or not math.isfinite(sum(size for _, size in found)):
        return None
    (first, low), (last, high) = found[0], found[-1]
    share = low / high if high else 0.0
    return _check(
        "gradient flow",
        share >= LEAST_GRADIENT,
        f"a gradient at the first layer of at least {LEAST_GRADIENT:g} times the last one's",
        f"{share:.2g} ({first} against {last})",
        "The gradient vanishes on its way back, so the lower layers cannot learn: use ReLU with He initialisation, "
        "batch norm or residual connections, or fewer layers.",
    )


def scores_plain(probe: Probe) -> Check:
    """Ask whether the network gives scores and not probabilities, which the loss would normalise once more."""
    rows_N, scores_NK = probe.scores_NK.sum(1), probe.scores_NK
    twice = bool((scores_NK >= 0).all() and ((rows_N - 1).abs() < 1e-3).all())
    return _check(
        "scores",
        not twice,
        "plain scores: the loss applies the softmax",
        "each image's outputs add up to 1" if twice else f"from {scores_NK.min():.3g} to {scores_NK.max():.3g}",
        "The network ends with a softmax and the loss applies another, which flattens the gradient: remove the "
        "network's own.",
    )


def weights_differ(updates: Mapping[str, tuple[Tensor, Tensor]]) -> Check:
    """Ask whether the units of each layer have become different ones: equal at first, they stay equal (lecture 6)."""
    alike = [name for name, (_, after) in updates.items() if _alike(after)]
    return _check(
        "initial weights",
        not alike,
        "the units of each layer differ after a few updates",
        f"all units are equal in {some(alike)}" if alike else "they differ",
        "Units with equal weights get equal gradients and stay one and the same: initialise the weights at random "
        "(He), not with zeros or another constant.",
    )


def layers_learn(
    updates: Mapping[str, tuple[Tensor, Tensor]], trainable: Collection[str], declared: Sequence[str] = ()
) -> Check:
    """Ask whether every parameter changes, except those below one of the names `declared` frozen.

    `trainable` are the names of the parameters that ask for a gradient; vectors among them may stay as they are,
    as a bias before batch norm does, which has no gradient.
    """
    still = [name for name, (before, after) in updates.items() if torch.equal(before, after)]
    still = [name for name in still if not any(name == each or name.startswith(f"{each}.") for each in declared)]
    still = [name for name in still if name not in trainable or updates[name][0].dim() > 1]
    frozen = [name for name in still if name not in trainable]
    return _check(
        "every layer learns",
        not still,
        "every parameter changes in a few updates, except those declared frozen",
        f"no change in {some(still)}" + (" (requires_grad is off)" if frozen else "") if still else "all change",
        "These parameters are not trained though nothing says so: set requires_grad, let the gradient reach them, "
        "or declare them frozen.",
    )


def batches_mixed(session: Session, *, images: int = 256) -> Check | None:
    """Ask whether the classes are mixed within batches; None where they are too small or there is one class.

    None too where the rule is lbfgs, of which every step is of all images.
    """
    if session.rule == "lbfgs":
        return None
    order = Order(len(session.images), session.batch_size, session.settings.seed)
    steps = max(2, -(-images // session.batch_size))
    labels_N = torch.cat([batch.y_N.cpu() for batch in islice(session.images.batches(order), steps)]).numpy()
    return mixed(labels_N, max(16, session.batch_size))


def mixed(labels_N: NDArray[np.int64], size: int) -> Check | None:
    """Ask whether labels in the order of training are mixed within runs of `size`, as a shuffle would mix them."""
    runs = [labels_N[place : place + size] for place in range(0, len(labels_N) - size + 1, size)]
    shares_K = np.bincount(labels_N) / len(labels_N)
    alone = float((shares_K**2).sum())
    if len(runs) < 2 or alone > 0.95:
        return None
    expected = alone + (1 - alone) / size
    found = float(np.mean([((np.bincount(run) / size) ** 2).sum() for run in runs]))
    return _check(
        "mixed batches",
        found < (1 + expected) / 2,
        f"two images of a batch share their class in about {expected:.0%} of cases, as when shuffled",
        f"{found:.0%}",
        "Batches hold images of few classes, as when sorted by class: shuffle the training images every epoch.",
    )


def prediction_independent(session: Session, batch: Batch) -> Check | None:
    """Ask whether an image's scores are the same whatever images it is predicted with; None for fewer than four."""
    x_NHWC = batch.x_NHWC[:8]
    if len(x_NHWC) < 4:
        return None
    trial = session.on_trial()
    together_NK = trial.forward.scores(x_NHWC)
    # In pairs, since batch norm in training mode refuses an image alone.
    apart_NK = torch.cat([trial.forward.scores(pair) for pair in x_NHWC[: len(x_NHWC) // 2 * 2].split(2)])
    scale = float(together_NK.std()) or 1.0
    difference = float((together_NK[: len(apart_NK)] - apart_NK).abs().max()) / scale
    tolerance = 0.01 if session.forward.precision == torch.float32 else 0.2
    return _check(
        "independent predictions",
        difference <= tolerance,
        "an image is predicted the same with one other and with many",
        f"scores differ by {difference:.2g} of their spread",
        "Prediction depends on the other images of the batch, as when batch norm is left in training mode: call "
        "eval() before predicting, and keep running statistics.",
    )


def parts_apart(train: Collection[str], validation: Collection[str]) -> Check:
    """Ask whether validation images are other images than the training ones, by their content hashes.

    >>> check = parts_apart(["a", "b"], ["b", "c"])
    >>> check.passed, check.measured
    (False, '1 of 2 are training images')
    """
    known = set(train)
    shared = sum(each in known for each in validation)
    return _check(
        "validation apart",
        not shared,
        "no validation image is also a training image",
        f"{shared:,} of {len(validation):,} are training images",
        "Validation on training images says nothing about new ones: take others for validation.",
    )


def labels_in_place(
    x_NHWC: NDArray[np.uint8], position_N: NDArray[np.int64], labels: Mapping[int, int], *, seed: int = 0
) -> Check | None:
    """Ask whether images fit their own labels better than those of the files beside them.

    `position_N` are the images' places in the order of the source, `labels` the class of each place that is
    known. Whether labels fit is how often an image's nearest neighbour has the same; None for few images.
    """
    chosen = np.random.default_rng(seed).permutation(len(x_NHWC))[:COMPARED]
    x_ND = torch.from_numpy(x_NHWC[chosen].reshape(len(chosen), -1)).float()
    distance_NN = torch.cdist(x_ND, x_ND).fill_diagonal_(math.inf).numpy()
    fits = {shift: _fit(distance_NN, position_N[chosen] + shift, labels) for shift in (0, *SHIFTS)}
    own, count = fits[0]
    shift = max(SHIFTS, key=lambda each: fits[each][0])
    best, others = fits[shift]
    if min(count, others) < 30:
        return None
    mean = (own * count + best * others) / (count + others)
    error = math.sqrt(max(mean * (1 - mean), 1e-4) * (1 / count + 1 / others))
    shifted = best - own > max(0.05, SURE * error)
    where = f"{abs(shift)} {'place' if abs(shift) == 1 else 'places'} {'further on' if shift > 0 else 'before'}"
    return _check(
        "labels in place",
        not shifted,
        "images fit their own labels at least as well as those of their neighbours in the source",
        f"nearest neighbours agree in {own:.0%}" + (f", and in {best:.0%} with the labels {where}" if shifted else ""),
        f"The labels seem to be shifted against the images: each image fits the label {where}; look at how the "
        "table of labels was made.",
    )


def _fit(
    distance_NN: NDArray[np.float32], position_N: NDArray[np.int64], labels: Mapping[int, int]
) -> tuple[float, int]:
    """Return how often nearest neighbours agree under the labels at these places, and of how many images."""
    labels_N = np.array([labels.get(int(place), -1) for place in position_N])
    known = np.flatnonzero(labels_N >= 0)
    if len(known) < 2:
        return 0.0, 0
    nearest = known[distance_NN[np.ix_(known, known)].argmin(1)]
    return float((labels_N[nearest] == labels_N[known]).mean()), len(known)


def _alike(weight: Tensor) -> bool:
    return weight.dim() > 1 and len(weight) > 1 and weight[0].numel() > 1 and bool((weight == weight[:1]).all())


def _check(name: str, passed: bool, expected: str, measured: str, advice: str) -> Check:
    return Check(name, passed, expected, measured, "" if passed else advice)
