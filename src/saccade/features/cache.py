"""Features kept on disk, keyed by content: the same features of the same images are computed once."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.base import clone

from saccade.data.named import cache_folder
from saccade.device import resolve_device, resolve_precision
from saccade.events import Finding, emit
from saccade.features.base import Bytes, Features, ImageFeatures
from saccade.features.kinds import described, restored
from saccade.files import content_hash, write_atomic
from saccade.nn import pretrained

GIGABYTES = 8.0
"""The room taken at the most; what was not used for longest goes first."""
SUFFIX = ".safetensors"


def default_folder() -> Path:
    """Return `$SACCADE_CACHE/features`, or the system's place for what can be made again."""
    return cache_folder().with_name("features")


def fitted(
    features: ImageFeatures, x_NHWC: Bytes, folder: Path | None, *, mirrored: bool = False
) -> tuple[ImageFeatures, Features]:
    """Return features fitted to images, and those images' x_ND: from `folder` where it has them, else kept there.

    Where they are `mirrored`, each row is the mean of an image's and of its mirror image's. The key is the content
    of the images, every setting, the content of a weight file, the precision computed in, and the code itself. What
    is damaged is made again; a folder that cannot be written to is told, and done without.
    """
    if folder is None:
        own = clone(features).fit(x_NHWC)
        return own, rows(own, x_NHWC, mirrored)
    place = folder / f"{_key(_settings(features) + ' mirrored' * mirrored, x_NHWC)}{SUFFIX}"
    if (found := _read(place)) is not None:
        tensors, config = found
        x_ND = tensors.pop("x_ND")
        with suppress(KeyError, TypeError, ValueError, RuntimeError):
            return restored(tensors, config), x_ND
    own = clone(features).fit(x_NHWC)
    x_ND = rows(own, x_NHWC, mirrored)
    tensors, config = described(own)
    _write(place, {**tensors, "x_ND": x_ND}, config)
    return own, x_ND


def rows(features: ImageFeatures, x_NHWC: Bytes, mirrored: bool) -> Features:
    """Return x_ND of images, or its mean with that of their mirror images."""
    x_ND = features.transform(x_NHWC)
    if mirrored:
        x_ND += features.transform(x_NHWC[:, :, ::-1])
        x_ND /= 2
    return x_ND


def kept(told: str, compute: Callable[[], dict[str, NDArray[Any]]], folder: Path | None) -> dict[str, NDArray[Any]]:
    """Return what `compute` gives: from `folder` where it has it, else computed and kept there.

    `told` says all that it depends on, but the code. What is damaged is made again.
    """
    if folder is None:
        return compute()
    place = folder / f"{content_hash(told.encode(), _code().encode())}{SUFFIX}"
    found = _read(place)
    if found is not None:
        return found[0]
    tensors = compute()
    _write(place, tensors, {})
    return tensors


def _settings(features: ImageFeatures) -> str:
    """Return every setting as text; of a weight file its content too, whatever it is called."""
    settings: dict[str, Any] = dict(features.get_params(deep=False))
    if network := settings.get("network"):
        weights = pretrained.find(str(network))
        if weights is not None and weights.file is not None:
            settings["weights"] = content_hash(weights.file.read_bytes())
    # What has no such setting computes in what is fast here, too.
    settings["precision"] = str(resolve_precision(settings.get("precision", "auto"), resolve_device()))
    return json.dumps({"kind": type(features).__name__, **settings}, sort_keys=True, default=str)


def _key(settings: str, x_NHWC: Bytes) -> str:
    shape = f"{settings}{_code()}{x_NHWC.shape}".encode()
    return content_hash(shape, np.ascontiguousarray(x_NHWC).data)


@cache
def _code() -> str:
    """Return a hash of the code that computes features, and the versions of what computes below it."""
    package = Path(__file__).parents[1]
    others = (package / name for name in ("native.py", "device.py", "train/forward.py"))
    files = [*package.glob("features/*.py"), *package.glob("nn/*.py"), *others]
    own = (file.read_bytes() for file in sorted(files))
    below = (version(name) for name in ("torch", "numpy", "torchvision", "timm", "llvmlite"))
    return content_hash(*own, " ".join(below).encode())


def _read(place: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Return what `_write` wrote; None where nothing was, or it is damaged."""
    try:
        with safe_open(place, framework="numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            config = json.loads(file.metadata()["config"])
        place.touch()
        return found, config
    except (OSError, SafetensorError, ValueError, LookupError, TypeError):
        return None


def _write(place: Path, tensors: dict[str, NDArray[Any]], config: dict[str, Any]) -> None:
    data = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, save(data, metadata={"config": json.dumps(config)}))
        _make_room(place.parent)
    except OSError as error:
        detail = f"features cannot be kept in {place.parent} ({error.strerror or error}): computed anew each time"
        emit(Finding(kind="cache", detail=detail))


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest, until the rest has room; the newest stays."""
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: -file.stat().st_mtime)
    taken = 0
    for place, file in enumerate(files):
        taken += file.stat().st_size
        if place and taken > GIGABYTES * 2**30:
            file.unlink(missing_ok=True)
