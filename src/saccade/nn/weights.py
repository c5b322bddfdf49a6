"""Files of weights: read without running anything in them, unwrapped, and known by their tensors' names and shapes."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from saccade.errors import ModelError, first_line
from saccade.files import content_hash, read_json

Shapes = Mapping[str, tuple[int, ...]]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_WRAPPINGS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "timm_model.")
_COMPUTED = ("num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask")
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
"""How torchvision's own files still name tensors of DenseNet and ViT that its networks have renamed."""
_DAMAGED = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError)


def read(file: Path) -> dict[str, Tensor]:
    """Return a file's tensors by name, on the CPU, out of their wrapping and without `module.` before every name.

    A .pth is read by torch.load(weights_only=True): nothing in a file is ever run. Raises ModelError
    where the file is missing, damaged, no file of weights, or would run code.
    """
    if not file.is_file():
        kind = "is a folder, not a file of weights" if file.is_dir() else "does not exist"
        raise ModelError(f'The weights file "{file}" {kind}; give a .safetensors or .pth file.')
    content = _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)
    tensors = {str(name): value for name, value in _unwrapped(content).items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(
            f'The file "{file}" holds no tensors by name; save a network\'s weights with '
            "torch.save(network.state_dict(), FILE)."
        )
    return {_renamed(name): tensors[given] for name, given in _unprefixed(tensors)}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor, without those that a network computes or counts for itself.

    >>> shapes({"conv1.weight": torch.zeros(8, 3, 7, 7), "bn1.num_batches_tracked": torch.tensor(0)})
    {'conv1.weight': (8, 3, 7, 7)}
    """
    return {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith(_COMPUTED)}


def fingerprint(body: Shapes) -> str:
    """Return 48 bits that tell one architecture's names and shapes, its head left out, from another's."""
    lines = (f"{name} {' '.join(map(str, shape))}\n" for name, shape in sorted(body.items()))
    return content_hash("".join(lines).encode())[:12]


def architectures(tensors: Shapes) -> list[str]:
    """Return the networks whose tensors, the head's left out, have these names and shapes; the plainest first.

    They are looked up in architectures.json, which scripts/architectures.py writes.
    """
    table = _table()
    found: dict[str, None] = {}
    for head in table["heads"]:
        body = {name: shape for name, shape in tensors.items() if name not in head}
        found |= dict.fromkeys(table["bodies"].get(fingerprint(body), ()))
    return sorted(found, key=plainness)


def plainness(model: str) -> tuple[bool, int, str]:
    """Return what sorts networks of the same tensors: torchvision's first, then the shortest name.

    >>> sorted(["timm/resnetaa50", "timm/resnet50", "torchvision/resnet50"], key=plainness)
    ['torchvision/resnet50', 'timm/resnet50', 'timm/resnetaa50']
    """
    return model.startswith("timm/"), len(model), model


@cache
def _table() -> dict[str, Any]:
    table = read_json(Path(__file__).with_name("architectures.json"))
    return {"heads": [frozenset(head) for head in table["heads"]], "bodies": table["bodies"]}


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        if zipfile.is_zipfile(file):
            raise ModelError(f'"{file}" is no safetensors file but one of torch.save; name it .pth.') from error
        raise ModelError(f'"{file}" is damaged or no safetensors file ({first_line(error)}).') from error


def _pickled(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        found = re.search(r"Unsupported (?:global|class)\W+(?:GLOBAL )?([\w.]+)", str(error))
        if found is None:
            raise _damaged(file) from error
        raise ModelError(
            f'"{file}" holds more than tensors ({found[1]}), which would run code and is never loaded; '
            "save only the weights, with torch.save(network.state_dict(), FILE)."
        ) from error
    except _DAMAGED as error:
        raise _damaged(file) from error


def _damaged(file: Path) -> ModelError:
    return ModelError(
        f'"{file}" is damaged or no file of weights; give what torch.save(network.state_dict(), FILE) wrote.'
    )


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    """Return the mapping that holds the tensors: the file's own, or the first known entry that is a mapping."""
    if not isinstance(content, Mapping):
        return {}
    return next((content[key] for key in _WRAPPINGS if isinstance(content.get(key), Mapping)), content)


def _unprefixed(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return each name without what a wrapper put before all of them, beside the name as given."""
    pairs = [(name, name) for name in names]
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name, _ in pairs)), None):
        pairs = [(name.removeprefix(prefix), given) for name, given in pairs]
    return pairs


def _renamed(name: str) -> str:
    for pattern, replacement in _OLD_NAMES:
        name = pattern.sub(replacement, name)
    return name
