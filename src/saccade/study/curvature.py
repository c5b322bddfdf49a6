"""The curvature of a network's loss: how much steeper it is one way than another, and how noisy its gradient."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from saccade.data.batches import Batch, Order
from saccade.device import generator
from saccade.events import Progress, emit
from saccade.optim.curvature import EXACT, Spectrum, exact_spectrum, krylov_spectrum, mean_spectrum, noise_scale
from saccade.optim.objective import Objective
from saccade.train.full_batch import FullBatch
from saccade.train.session import Session, full_batch

LEADING = 10
NOISE_BATCHES = 32


@dataclass(frozen=True)
class Curvature:
    """What the loss of a session's network, over its images, looks like where its weights are.

    `spectrum` is of the Hessian, whole where `exact`, else from random probes; `condition`, then at least so
    large, is None where the loss is not convex, or the spectrum is hardly known. `noise_scale` is in images: a batch
    of so many has as much noise as gradient; None where the gradient is lost in its noise.
    """

    parameters: int
    loss: float
    gradient_norm: float
    spectrum: Spectrum
    exact: bool
    leading: list[float]
    condition: float | None
    noise_scale: float | None


def curvature_of(session: Session, *, probes: int, steps: int) -> Curvature:
    """Measure the curvature of a session's loss over all its images, noise off, with the penalty that training adds.

    That is `penalty_of`: weight decay, save where it is decoupled from the gradient, and L2 add their λ to the
    eigenvalues along kernels and matrices. L1 adds to loss and gradient alone: its second derivative is 0, save at
    w = 0, where there is none. Of more than EXACT parameters, by `probes` times `steps` products of the Hessian with a
    vector. The session is left as it was.
    """
    trial = session.on_trial()
    full = full_batch(trial)
    objective = full.objective
    loss, slope_D = objective.slope()
    exact = objective.size <= EXACT
    with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no second derivative
        spectra = [exact_spectrum(objective.hessian())] if exact else list(_sampled(trial, objective, probes, steps))
    spectrum = mean_spectrum(spectra)
    gradients_MD, batch_size = _gradients(trial, full)
    return Curvature(
        parameters=objective.size,
        loss=loss,
        gradient_norm=float(slope_D.double().norm()),
        spectrum=spectrum,
        exact=exact,
        leading=spectra[0].leading(LEADING),
        condition=spectrum.condition if session.settings.model == "linear" else None,
        noise_scale=noise_scale(gradients_MD, batch_size) if len(gradients_MD) > 1 else None,
    )


def _sampled(session: Session, objective: Objective, probes: int, steps: int) -> Iterator[Spectrum]:
    draws = generator(session.settings.seed, "curvature")
    signs_PD = torch.randint(2, (probes, objective.size), generator=draws).float().to(session.forward.device) * 2 - 1
    done = 0

    def product(vector_D: Tensor) -> Tensor:
        nonlocal done
        done += 1
        emit(Progress(task="curvature", done=done, total=probes * steps, unit="products"))
        return objective.product(vector_D)

    for signs_D in signs_PD:
        yield krylov_spectrum(product, signs_D, steps)


def _gradients(session: Session, full: FullBatch) -> tuple[Tensor, int]:
    """Return the gradients (M, D) of up to NOISE_BATCHES batches, the penalty's added, and the images in each."""
    images, forward = session.images, session.forward
    fewest = min(2, len(images))  # batch norm needs two
    batch_size = max(fewest, min(session.batch_size, math.ceil(len(images) / NOISE_BATCHES)))
    batches = images.batches(Order(len(images), batch_size, session.settings.seed))

    def loss(batch: Batch) -> Iterator[Tensor]:
        scores_NK = forward.network(forward.to_input(batch.x_NHWC))
        yield session.loss(scores_NK.float(), batch.y_N.to(scores_NK.device)).mean()
        if (added := full.penalty()).requires_grad:
            yield added

    few = islice(batches, min(NOISE_BATCHES, len(images) // batch_size))
    parameters = full.objective.parameters
    return torch.stack([Objective(parameters, partial(loss, batch)).slope()[1] for batch in few]), batch_size
