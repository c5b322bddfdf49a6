"""Checkpoints: a training between two steps, on disk as tensors and plain values, whole or not at all."""

import json
import time
from collections.abc import Set
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
SOON, LOST, EVERY = 1.0, 0.1, 10.0
"""Between two checkpoints lies, at the least, this share of the training's time so far, from SOON to EVERY seconds."""
SHARE = 0.02
"""Share of the training's time that writing may take."""
KEPT = 2
PARTS = ("back/best/", "back/", "best/", "")
"""Tensors whose names begin alike lie in one file: those to go back to, the best epoch's, and all others."""
SCHEMA = 2
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError)
"""What reading a checkpoint raises where its files are not what `write` left."""


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps: `tensors` by name, and `plain` values that JSON holds."""

    plain: dict[str, Any]
    tensors: dict[str, Tensor]


def write(place: Path, checkpoint: Checkpoint, there: Set[str] = frozenset()) -> None:
    """Write tensors to files named by their content, but for those `there`, then `place`.json, which names them.

    Only with it are they a checkpoint; its checksum is over the names of its files, and so over what is in them.
    """
    files: dict[str, str] = {}
    for part, tensors in _parted(checkpoint.tensors).items():
        data = save(
            {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        )
        name = f"{content_hash(data)}.safetensors"
        if name not in {*there, *files.values()}:
            write_atomic(place.with_name(name), data)
        files[part] = name
    value = {"schema": SCHEMA, "files": files, "plain": checkpoint.plain}
    write_json(place.with_suffix(".json"), {**value, "checksum": _checksum(value)})


def read(place: Path) -> Checkpoint:
    """Return what `write` wrote; raises one of DAMAGE where the files are not that."""
    value = read_json(place.with_suffix(".json"))
    if value.pop("checksum") != _checksum(value) or value["schema"] != SCHEMA:
        raise ValueError("its checksum does not fit, or another version of saccade wrote it")
    tensors = {}
    for part, name in value["files"].items():
        data = place.with_name(name).read_bytes()
        if name != f"{content_hash(data)}.safetensors":
            raise ValueError(f"{name} is not what was written")
        tensors.update({part + each: tensor for each, tensor in load(data).items()})
    return Checkpoint(value["plain"], tensors)


def _parted(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return tensors by the part they are of, and what follows its name in theirs."""
    parted: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part = next(part for part in PARTS if name.startswith(part))
        parted.setdefault(part, {})[name.removeprefix(part)] = value
    return parted


def _checksum(value: dict[str, Any]) -> str:
    return content_hash(json.dumps(value, sort_keys=True).encode())


class Checkpoints:
    """The newest two checkpoints of one training, in a folder of their own, and when to write the next.

    Only the clock decides when; results do not depend on it. Each names the file of the best epoch's weights too,
    which is written once, and stays for as long as one of them names it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begun = time.perf_counter()
        self._next = self._latest = self._affordable = self._begun + FIRST
        self._writing = 0.0
        self._whole: set[str] = set()

    def newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, passing over damaged ones with a Finding; None where there is none."""
        for place in self._places():
            try:
                found = read(place)
                self._whole = _files(place)
                return found
            except DAMAGE as error:
                detail = f"The checkpoint {place} is damaged ({type(error).__name__}) and was passed over."
                emit(Finding(kind="checkpoint", severity="warning", detail=detail))
        return None

    def due(self, *, last: bool = False, sound: bool = True) -> bool:
        """Return whether one should be written now; the `last` of a training need not wait for its turn.

        One that is not `sound` holds a state to go back to besides its own: all but the first give way for a while.
        """
        turn = self._affordable if last else self._next if sound else self._latest
        return time.perf_counter() >= turn

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write the checkpoint taken after `step` steps, then remove all but the newest two."""
        begun = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        write(place := self.folder / f"{step:09}", checkpoint, self._whole)
        self._whole = _files(place)
        kept = {name for place in self._places()[:KEPT] for name in _files(place)}
        for file in sorted(self.folder.iterdir(), key=lambda file: file.suffix != ".json"):  # what names before what is
            if file.name not in kept:
                file.unlink()
        now = time.perf_counter()
        self._writing += now - begun
        self._affordable = self._begun + (self._writing + now - begun) / SHARE
        apart = min(EVERY, max(SOON, LOST * (now - self._begun)))
        self._next = max(now + apart, self._affordable)
        self._latest = self._next + apart

    def drop(self, step: int) -> None:
        """Remove the checkpoints taken after more than `step` steps."""
        for place in self._places():
            if int(place.name) > step:
                place.with_suffix(".json").unlink()

    def _places(self) -> list[Path]:
        """Return the checkpoints without their suffix, newest first."""
        return [file.with_suffix("") for file in sorted(self.folder.glob("[0-9]*.json"), reverse=True)]


def _files(place: Path) -> set[str]:
    """Return the names of a checkpoint's files; of a damaged one that of the file that names them."""
    name = place.with_suffix(".json").name
    try:
        return {name, *read_json(place.with_suffix(".json"))["files"].values()}
    except DAMAGE:
        return {name}


def seconds_spent(folder: Path) -> float:
    """Return at how many seconds of its run the latest checkpoint in or below a folder was taken; 0 without any."""
    found = [0.0]
    for file in folder.rglob("[0-9]*.json"):
        with suppress(*DAMAGE):
            found.append(float(read_json(file)["plain"]["seconds"]))
    return max(found)
