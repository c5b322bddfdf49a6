"""`saccade curvature`: a source, a network on its training images, and the curvature of its loss on some of them."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from saccade.data import Parts
from saccade.data.batches import ArrayImages
from saccade.device import resolve_device, use_threads
from saccade.errors import SettingError
from saccade.events import Progress, emit, stage
from saccade.files import write_atomic, write_json
from saccade.recipe.material import parts_of
from saccade.recipe.network import start
from saccade.recipe.plan import batch_for, full_side, mirrored, native_side
from saccade.recipe.stages import with_weights
from saccade.report import curvature_page
from saccade.run import make_folder, refuse_place
from saccade.settings import TrainSettings
from saccade.study.curvature import Curvature, curvature_of
from saccade.train.budget import Pace
from saccade.train.session import Session
from saccade.words import plural

PROBES = 2


def measure_curvature(
    source: str | Path, settings: TrainSettings, *, images: int, products: int, out: Path | None = None
) -> dict[str, Any]:
    """Return what the loss over some training images looks like at a network's weights; draw it in a folder.

    The network is new, or trained for `settings.epochs` before; the test part stays sealed. Nothing is written
    before all is measured. Raises InputError where source, settings, `images` or `out` cannot be used.
    """
    begun = perf_counter()
    refuse_place(source, out)
    if images < 2:
        raise SettingError(f"images is {images}; expected 2 or more, as batch norm needs them.")
    settings = with_weights(settings)
    if settings.budget is not None or settings.replay is not None:
        raise SettingError("The curvature is measured at new weights, or after --epochs; leave budget and replay out.")
    if settings.patience is not None:
        raise SettingError("The curvature is measured after all of the epochs, without validating; leave patience out.")
    device = resolve_device(settings.device)
    use_threads(settings.threads)
    with stage("open") as opening:
        parts = parts_of(source, settings)
        part = parts.train
        opening.outcome = f"{plural(len(part), 'training image')}, {plural(len(part.classes), 'class')}"
    resolved = _resolved(settings, parts)
    with stage("train") as training:
        session = start(part, resolved)
        training.outcome = plural(_train(session), "step")
    with stage("curvature") as record:
        few = part.select(np.linspace(0, len(part) - 1, min(images, len(part))).astype(np.int64))
        x_NHWC, y_N = session.forward.images(few), torch.from_numpy(few.labels_N)
        sample = replace(session, images=ArrayImages(x_NHWC.to(device), y_N.to(device)), names=few.images.keys)
        probes = min(PROBES, products)
        measured = curvature_of(sample, probes=probes, steps=products // probes)
        record.outcome = f"steepest {measured.spectrum.values_M.max():.3g}"
    folder = make_folder(out, f"{part.images.name}-curvature")
    told = {
        "schema": 1,
        "source": str(source),
        "model": settings.model,
        "epochs": settings.epochs or 0,
        "flip": resolved.flip,
        "images": len(few),
        **_plain(measured),
        "folder": str(folder),
        "seconds": round(perf_counter() - begun, 2),
    }
    write_json(folder / "curvature.json", told)
    write_atomic(folder / "curvature.html", curvature_page(told))
    return told


def _resolved(settings: TrainSettings, parts: Parts) -> TrainSettings:
    """Return the settings with nothing left open: full size, mirrored as `train` would, where there is training."""
    part = parts.train
    chosen = {
        "size": settings.size or full_side(native_side(part)),
        "batch_size": settings.batch_size or batch_for(len(part)),
        "flip": mirrored(settings, parts) if settings.epochs else bool(settings.flip),
        "views": False,
    }
    return settings.model_copy(update=chosen)


def _train(session: Session) -> int:
    """Train for as many epochs as the settings say, if any; return the steps."""
    steps = session.steps(session.settings.epochs) if session.settings.epochs else 0
    for done, _, _ in session.run(Pace.fixed(steps)):
        emit(Progress(task="train", done=done, total=steps, unit="steps"))
    return steps


def _plain(measured: Curvature) -> dict[str, Any]:
    spectrum = measured.spectrum
    return {
        "parameters": measured.parameters,
        "loss": measured.loss,
        "gradient_norm": measured.gradient_norm,
        "method": "exact" if measured.exact else "lanczos",
        "leading": measured.leading,
        "largest": float(spectrum.values_M.max()),
        "smallest": float(spectrum.values_M.min()),
        "mean": spectrum.mean,
        "negative_share": spectrum.negative,
        "flat_share": spectrum.flat,
        "condition": measured.condition,
        "noise_scale": measured.noise_scale,
        "density": {
            "values": spectrum.values_M.tolist(),
            "shares": spectrum.shares_M.tolist(),
            "errors": spectrum.errors_M.tolist(),
        },
    }
