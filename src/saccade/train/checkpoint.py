"""Checkpoints: a training between two steps, on disk as tensors and plain values, whole or not at all."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from saccade.events import Finding, emit
from saccade.files import content_hash, read_json, write_atomic, write_json

FIRST = 5.0
"""Seconds after which a training's first checkpoint is written."""
EVERY = 10.0
"""Seconds between two checkpoints, at the least."""
SHARE = 0.02
"""Share of the training's time that writing may take."""
KEPT = 2
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError)
"""What reading a checkpoint raises where its files are not what `write` left."""


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps: `tensors` by name, and `plain` values that JSON holds."""

    plain: dict[str, Any]
    tensors: dict[str, Tensor]


def write(place: Path, checkpoint: Checkpoint) -> None:
    """Write `place`.safetensors, then `place`.json with a checksum over both: only with it are they a checkpoint."""
    data = save(
        {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in checkpoint.tensors.items()
        }
    )
    write_atomic(place.with_suffix(".safetensors"), data)
    checksum = _checksum(data, checkpoint.plain)
    write_json(place.with_suffix(".json"), {"schema": 1, "checksum": checksum, "plain": checkpoint.plain})


def read(place: Path) -> Checkpoint:
    """Return what `write` wrote; raises one of DAMAGE where the files are not that."""
    written = read_json(place.with_suffix(".json"))
    data = place.with_suffix(".safetensors").read_bytes()
    if written["checksum"] != _checksum(data, written["plain"]):
        raise ValueError("its checksum does not fit")
    return Checkpoint(written["plain"], load(data))


def _checksum(data: bytes, plain: dict[str, Any]) -> str:
    return content_hash(data, json.dumps(plain, sort_keys=True).encode())


class Checkpoints:
    """The newest two checkpoints of one training, in a folder of their own, and when to write the next.

    Only the clock decides when; results do not depend on it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begun = time.perf_counter()
        self._next = self._affordable = self._begun + FIRST
        self._writing = 0.0

    def newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, passing over damaged ones with a Finding; None where there is none."""
        for place in self._places():
            try:
                return read(place)
            except DAMAGE as error:
                detail = f"The checkpoint {place} is damaged ({type(error).__name__}) and was passed over."
                emit(Finding(kind="checkpoint", severity="warning", detail=detail))
        return None

    def due(self, *, last: bool = False) -> bool:
        """Return whether one should be written now; the `last` of a training need not wait for its turn."""
        return time.perf_counter() >= (self._affordable if last else self._next)

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write the checkpoint taken after `step` steps, then remove all but the newest two."""
        begun = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / f"{step:09}", checkpoint)
        kept = {place.name for place in self._places()[:KEPT]}
        for file in sorted(self.folder.iterdir()):  # .json before .safetensors: never the one without the other
            if file.stem not in kept:
                file.unlink()
        now = time.perf_counter()
        self._writing += now - begun
        self._affordable = self._begun + (self._writing + now - begun) / SHARE
        self._next = max(now + EVERY, self._affordable)

    def drop(self, step: int) -> None:
        """Remove the checkpoints taken after more than `step` steps."""
        for place in self._places():
            if int(place.name) > step:
                place.with_suffix(".json").unlink()
                place.with_suffix(".safetensors").unlink(missing_ok=True)

    def _places(self) -> list[Path]:
        """Return the checkpoints without their suffix, newest first."""
        return [file.with_suffix("") for file in sorted(self.folder.glob("[0-9]*.json"), reverse=True)]


def seconds_spent(folder: Path) -> float:
    """Return at how many seconds of its run the latest checkpoint in or below a folder was taken; 0 without any."""
    found = [0.0]
    for file in folder.rglob("[0-9]*.json"):
        with suppress(*DAMAGE):
            found.append(float(read_json(file)["plain"]["seconds"]))
    return max(found)
