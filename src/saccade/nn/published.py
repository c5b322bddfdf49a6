"""Weights that torchvision and timm know of: what they expect of images, where caches keep them, how they are had."""

import os
import re
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from saccade.downloads import impatient, unreachable
from saccade.errors import ModelError, first_line
from saccade.events import Progress, emit
from saccade.files import expanded
from saccade.settings import Interpolation

RGB = tuple[float, float, float]

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_SD: RGB = (0.229, 0.224, 0.225)
"""Of ImageNet's colours in 0…1, which most weights were trained on."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
OWN_LICENCE = "your own run's"
"""The licence of weights that nobody else trained."""
_COMMERCIAL = re.compile(
    r"apache-2\.0|mit|isc|unlicense|bsd(-[234]-clause)?|cc0(-1\.0)?|cc-by(-sa)?(-[1234]\.\d)?|" + OWN_LICENCE,
    re.IGNORECASE,
)
"""Licences, by their whole name, that allow commercial use."""
_NOT_COMMERCIAL = re.compile(
    r"\bnc\b|non-?commercial|\bresearch\b|\bamlr\b|\bseer\b|facebookresearch/SWAG", re.IGNORECASE
)
"""In the names of those that forbid it, and of one that torchvision gives by its address (CC BY-NC 4.0)."""


@dataclass(frozen=True)
class Pretrained:
    """Weights at hand: their network, their file, what they expect of images.

    `model` is "torchvision/NAME", "timm/NAME", or, where a `run` of saccade's has trained it, one of its own, built
    as `settings` say. `mean` and `sd` are those of the images in 0…1 that the weights were trained on, `size` their
    side, `interpolation` how they were resized to it; what `find` returns always has a file.
    """

    model: str
    file: Path | None
    mean: RGB = IMAGENET_MEAN
    sd: RGB = IMAGENET_SD
    size: int = 224
    licence: str = "unknown"
    source: str = ""
    interpolation: Interpolation = "bilinear"
    run: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """Return what `find` returns the same for."""
        return f"run/{self.run}" if self.run else f"{self.model}={self.file}"

    def plain(self) -> dict[str, Any]:
        """Return what a run's summary says of them."""
        return {
            "network": self.model,
            "source": self.source,
            "licence": self.licence,
            "commercial_use": allows_commerce(self.licence),
            "file": str(self.file),
            "run": None if self.run is None else str(self.run),
            "size": self.size,
            "mean": list(self.mean),
            "sd": list(self.sd),
            "interpolation": self.interpolation,
        }


def allows_commerce(licence: str) -> bool | None:
    """Return whether a licence, by its name, allows commercial use; None where that is not known.

    Of several, such as "mit and gemma", the strictest counts.

    >>> [allows_commerce(name) for name in ("apache-2.0", "cc-by-nc-4.0", "seer-license", "mit and gemma")]
    [True, False, False, None]
    """
    if _NOT_COMMERCIAL.search(licence):
        return False
    return all(_COMMERCIAL.fullmatch(each) for each in licence.split(" and ")) or None


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights as their library describes them; `file_name` is theirs at `url`, `hub` their Hugging Face repository."""

    model: str
    mean: RGB
    sd: RGB
    size: int
    licence: str
    interpolation: Interpolation = "bilinear"
    url: str = ""
    file_name: str = ""
    hub: str = ""
    hub_files: tuple[str, ...] = _HUB_FILES

    @property
    def source(self) -> str:
        """Return where they come from: the repository, else the URL."""
        return self.hub or self.url

    @property
    def known(self) -> bool:
        """Return whether there are such weights: timm describes networks without any, too."""
        return bool(self.hub or self.url)

    def cached(self) -> Path | None:
        """Return the file of these weights in the caches of torch and of the Hugging Face hub, or None."""
        places = [checkpoints() / self.file_name] if self.url else []
        for name in self.hub_files if self.hub else ():
            found = (_repository(self.hub) / "snapshots").glob(f"*/{name}")
            places += sorted(found, key=lambda file: file.lstat().st_mtime, reverse=True)
        return next((file for file in places if file.is_file()), None)

    def place(self) -> Path:
        """Return where the file would have to be, were it put there by hand."""
        if self.hub:
            return _repository(self.hub) / "snapshots" / "main" / self.hub_files[0]
        return checkpoints() / self.file_name


def published(model: str) -> list[Published]:
    """Return what a library knows of weights for a network, or for one tag of it; the default first.

    The default may be a description without weights: see `known`.
    """
    family, _, name = model.partition("/")
    return _torchvision(name) if family == "torchvision" else _timm(name)


def tags(plain: str) -> list[str]:
    """Return timm's names of weights for one of its networks: NAME.TAG."""
    import timm

    return list(timm.list_models(f"{plain}.*", pretrained=True))


def anything_cached() -> bool:
    """Tell whether the caches may hold any weights, before what could use them is imported."""
    return any(checkpoints().glob("*.*")) or any(hub_folder().glob("models--timm--*"))


def checkpoints() -> Path:
    """Return the folder where torch keeps downloaded weights."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints"


def hub_folder() -> Path:
    """Return the Hugging Face hub's cache, from its environment variables as they are now."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return expanded(folder)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return expanded(home) / "hub"


def downloaded(weights: Published) -> Path:
    """Download weights into their library's own cache; raise ModelError where that fails, within seconds offline."""
    home = os.environ.get("HF_ENDPOINT", "https://huggingface.co") if weights.hub else weights.url
    reason = unreachable("{0.scheme}://{0.netloc}".format(urlsplit(home)))
    reason = reason and f"no network, {reason}"
    if reason is None:
        emit(Progress(task="download", done=0, total=1, detail=weights.model))
        try:
            with impatient(), redirect_stderr(StringIO()):  # progress bars
                file = _from_hub(weights, home.rstrip("/")) if weights.hub else _from_url(weights)
        except (OSError, RuntimeError, ValueError) as error:
            reason = first_line(error)
        else:
            emit(Progress(task="download", done=1, total=1, detail=weights.model))
            return file
    raise ModelError(
        f'The weights of "{weights.model}" are not on this machine and cannot be downloaded ({reason}): put them at '
        f"{weights.place()}, or give a file of yours, as in --pretrained {weights.model.partition('.')[0]}=FILE."
    )


def _torchvision(name: str) -> list[Published]:
    from torchvision.models import get_model_weights

    known = get_model_weights(name)
    size = known.DEFAULT.meta["min_size"]
    fitting = [weights for weights in known if weights.meta["min_size"] == size]  # a ViT's tensors grow with its images
    return [
        _described(
            f"torchvision/{name}",
            weights.transforms(),
            size=weights.transforms().crop_size[0],
            licence=weights.meta.get("license"),
            url=weights.url,
        )
        for weights in dict.fromkeys((known.DEFAULT, *fitting))
    ]


def _timm(name: str) -> list[Published]:
    from timm.models import get_pretrained_cfg

    default: Any = get_pretrained_cfg(name)
    if default is None:
        return []
    plain, dot, _ = name.partition(".")
    tagged: list[Any] = [] if dot else [get_pretrained_cfg(each) for each in tags(plain)]
    fitting = [each for each in tagged if each.input_size == default.input_size and each.tag != default.tag]
    return [
        _described(
            f"timm/{plain}.{entry.tag}" if entry.tag else f"timm/{plain}",
            entry,
            size=entry.input_size[-1],
            licence=entry.license,
            url=entry.url,
            hub=entry.hf_hub_id or "",
            hub_files=(entry.hf_hub_filename,) if entry.hf_hub_filename else _HUB_FILES,
        )
        for entry in (default, *fitting)
    ]


def _described(model: str, expected: Any, *, size: int, licence: str | None, url: Any, **places: Any) -> Published:
    """Return weights with the mean and standard deviation that their library expects; a URL may bring a file's name."""
    address, name = url if isinstance(url, tuple) else (url or "", Path(urlsplit(url or "").path).name)
    mean, sd = (tuple(float(value) for value in values) for values in (expected.mean, expected.std))
    return Published(
        model=model,
        mean=(mean[0], mean[1], mean[2]),
        sd=(sd[0], sd[1], sd[2]),
        size=int(size),
        licence=licence or "unknown",
        interpolation="bicubic" if "bicubic" in str(expected.interpolation).lower() else "bilinear",
        url=address,
        file_name=name,
        **places,
    )


def _from_hub(weights: Published, endpoint: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    # A connection that breaks halfway is an error of the HTTP library beneath, which changed with the hub's versions.
    broken: Any = tuple(kind for kind in HfHubHTTPError.__bases__ if kind is not OSError)
    try:
        return Path(hf_hub_download(weights.hub, weights.hub_files[0], cache_dir=hub_folder(), endpoint=endpoint))
    except broken as error:
        raise OSError(str(error)) from error


def _from_url(weights: Published) -> Path:
    from torch.hub import HASH_REGEX, download_url_to_file

    place = weights.place()
    place.parent.mkdir(parents=True, exist_ok=True)
    checksum = HASH_REGEX.search(place.name)
    download_url_to_file(weights.url, str(place), checksum[1] if checksum else None, progress=False)
    return place


def _repository(hub: str) -> Path:
    return hub_folder() / ("models--" + hub.partition("@")[0].replace("/", "--"))
