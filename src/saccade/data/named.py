"""Data sets known by name: scikit-learn's digits, and what torchvision downloads once and then finds in the cache."""

import os
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from saccade.data.arrays import stacked
from saccade.data.imageset import ImageSet
from saccade.downloads import impatient, unreachable
from saccade.errors import SourceError, first_line
from saccade.events import Progress, emit
from saccade.files import lock
from saccade.settings import DataSettings

_TRAIN_FLAG: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_SPLIT_WORD: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}


@dataclass(frozen=True)
class Named:
    """One of torchvision's data sets: its class there, where it comes from, and how its parts are asked for."""

    description: str
    factory: str
    home: str
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _TRAIN_FLAG)


NAMED: Mapping[str, Named] = {
    "mnist": Named("70,000 handwritten digits, 28 x 28, grey", "MNIST", "https://ossci-datasets.s3.amazonaws.com"),
    "fashion-mnist": Named(
        "70,000 pieces of clothing, 28 x 28, grey",
        "FashionMNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
    "kmnist": Named("70,000 handwritten Japanese characters, 28 x 28, grey", "KMNIST", "http://codh.rois.ac.jp"),
    "usps": Named("9,298 digits from envelopes, 16 x 16, grey", "USPS", "https://www.csie.ntu.edu.tw"),
    "cifar10": Named("60,000 photos of 10 things, 32 x 32", "CIFAR10", "https://www.cs.toronto.edu"),
    "cifar100": Named("60,000 photos of 100 things, 32 x 32", "CIFAR100", "https://www.cs.toronto.edu"),
    "svhn": Named("99,289 house numbers' digits, 32 x 32", "SVHN", "http://ufldl.stanford.edu", _SPLIT_WORD),
    "stl10": Named("13,000 photos of 10 things, 96 x 96", "STL10", "http://ai.stanford.edu", _SPLIT_WORD),
}


def known_datasets() -> dict[str, str]:
    """Return the name and a short description of every data set known by name.

    >>> known_datasets()["digits"]
    '1,797 handwritten digits, 8 x 8, grey; always at hand'
    """
    digits = "1,797 handwritten digits, 8 x 8, grey; always at hand"
    return {"digits": digits} | {name: entry.description for name, entry in NAMED.items()}


def cache_folder() -> Path:
    """Return where downloaded data sets lie: `$SACCADE_CACHE/datasets`, or the system's place for caches."""
    folder = os.environ.get("SACCADE_CACHE")
    return (Path(folder) if folder else user_cache_path("saccade")) / "datasets"


def open_named(name: str, settings: DataSettings) -> ImageSet:
    """Return a data set by name, from the cache, or downloaded into it where there is a network.

    Raises SourceError where it is in neither, within seconds.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        x_NHW = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return stacked([(None, x_NHW, digits.target)], name=name, settings=settings)
    entry = NAMED[name]
    folder = cache_folder() / name
    loaded = _from_cache(entry, folder) or _download(name, entry, folder)
    parts = [(part, _pixels(data), _labels(data)) for part, data in loaded.items()]
    classes = getattr(next(iter(loaded.values())), "classes", None)
    return stacked(parts, name=name, classes=classes, settings=settings)


def _torchvision(entry: Named, folder: Path, *, download: bool) -> dict[str, Any]:
    """Return each part as torchvision's own data set; what it prints and warns of is kept from the user."""
    import torchvision.datasets

    factory = getattr(torchvision.datasets, entry.factory)
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        return {part: factory(folder, download=download, **words) for part, words in entry.parts.items()}


def _from_cache(entry: Named, folder: Path) -> dict[str, Any] | None:
    if not folder.is_dir():
        return None
    try:
        return _torchvision(entry, folder, download=False)
    except RuntimeError:  # torchvision's word for "not found or corrupted"
        return None
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"The cached data set in {folder} is damaged ({error}); remove that folder.") from error


def _download(name: str, entry: Named, folder: Path) -> dict[str, Any]:
    absent = (
        f'The data set "{name}" is not on this machine and cannot be downloaded ({{}}); with a network, try again, or '
        f"put torchvision's files of it into {folder}."
    )
    if (reason := unreachable(entry.home)) is not None:
        raise SourceError(absent.format(reason))
    emit(Progress(task="download", done=0, total=1, detail=name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with impatient(), lock(folder):
            loaded = _torchvision(entry, folder, download=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise SourceError(absent.format(first_line(error))) from error
    emit(Progress(task="download", done=1, total=1, detail=name))
    return loaded


def _pixels(data: Any) -> Any:
    """Return a torchvision data set's images as (N, H, W) or (N, H, W, C)."""
    x = np.asarray(data.data)
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 and x.shape[1] == 3 else x


def _labels(data: Any) -> Any:
    return np.asarray(data.targets if hasattr(data, "targets") else data.labels)
