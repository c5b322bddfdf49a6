"""Pixels owns the decoded images, within a memory limit; what does not fit is decoded again when asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from saccade.data.crops import Drawn, cut
from saccade.data.decode import Decoded, Uint8
from saccade.data.parallel import in_chunks
from saccade.data.scale import check_square, square, thumbnail
from saccade.data.sketch import Sketch, sketches
from saccade.device import cores
from saccade.errors import DecodeError, InputError
from saccade.files import content_hash
from saccade.settings import DataSettings, Interpolation

Load = Callable[[str], Decoded]
TOGETHER = 2**20
"""Bytes of small images whose facts are taken at once, which is cheaper than one by one."""
SMALL = 4096
"""Bytes of a file below which reading it is mostly Python's own work, which one thread at a time can do."""
ASKED = 16
"""Files whose sizes are asked for, to tell whether all are small."""
Stamp = tuple[int, int]
"""What a file cannot change without: its size in bytes, and when it was written (or its checksum)."""


@dataclass(frozen=True)
class Origin:
    """Where images come from that are files: the stamp of each by name, and its path where it lies in a folder."""

    stamp: Callable[[str], Stamp]
    path: Callable[[str], Path] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is remembered of every image, kept or not; `size` is the file's upright `(width, height)`.

    `hash` is of the shape and pixels as they are kept, whatever file they came from.
    """

    hash: str
    size: tuple[int, int]
    notes: tuple[str, ...]
    format: str
    sketch: Sketch


@dataclass
class _Store:
    """What all views of one source share: how to load, what was decoded, and the room left for more."""

    load: Load
    room: float
    kept: dict[str, Uint8] = field(default_factory=dict)
    origin: Origin | None = None
    facts: dict[str, Facts] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def read(self, key: str) -> Uint8:
        """Return an image's pixels, decoding them unless they are kept."""
        if (x_HWC := self.kept.get(key)) is not None:
            return x_HWC
        x_HWC = self.load(key).x_HWC
        self.keep(key, x_HWC)
        return x_HWC

    def keep(self, key: str, x_HWC: Uint8) -> None:
        """Keep an image's pixels if there is room."""
        if x_HWC.nbytes <= self.room:
            with self.lock:
                if x_HWC.nbytes <= self.room and key not in self.kept:
                    self.room -= x_HWC.nbytes
                    self.kept[key] = x_HWC

    def take(self, decoded: Mapping[str, Decoded]) -> None:
        """Remember the facts of decoded images, those of one size together, and keep what there is room for.

        What is only read goes without: hashing and sketching cost as much as decoding.
        """
        of_size: dict[tuple[object, ...], list[str]] = {}
        for key, image in decoded.items():
            if key not in self.facts:
                small = image.x_HWC.nbytes < TOGETHER // 16
                of_size.setdefault(image.x_HWC.shape if small else (key,), []).append(key)
        for keys in of_size.values():
            first = decoded[keys[0]].x_HWC
            x_NHWC = first[None] if len(keys) == 1 else np.stack([decoded[key].x_HWC for key in keys])
            for key, sketch in zip(keys, sketches(x_NHWC), strict=True):
                image = decoded[key]
                digest = content_hash("{}x{}:".format(*image.x_HWC.shape).encode(), image.x_HWC.data)
                self.facts[key] = Facts(digest, image.size, image.notes, image.format, sketch)
        for key, image in decoded.items():
            self.keep(key, image.x_HWC)

    def known(self, key: str) -> Facts:
        """Return what is remembered of an image, decoding it if it was not yet; raises DecodeError."""
        if key in self.reasons:
            raise DecodeError(self.reasons[key])
        if key not in self.facts:
            self.take({key: self.load(key)})
        return self.facts[key]


class Pixels:
    """The pixels of some images by name: no name but those in `keys` can be asked for.

    Results do not depend on the number of threads, on the memory limit, or on what was asked before.
    """

    def __init__(
        self,
        keys: Iterable[str],
        load: Load,
        settings: DataSettings,
        origin: Origin | None = None,
    ) -> None:
        self.keys = frozenset(keys)
        self._settings = settings
        self._store = _Store(load, settings.memory * 2**30, origin=origin)

    def only(self, keys: Iterable[str], *, alone: bool = False) -> "Pixels":
        """Return a view that answers for `keys` alone and shares what is decoded.

        `alone` reads in the thread that asks, for many that each ask for something else.
        """
        view = object.__new__(Pixels)
        view.keys, view._settings, view._store = frozenset(keys), self._settings, self._store
        if alone:
            view._settings = self._settings.model_copy(update={"workers": 0})
        self._refuse_others(view.keys)
        return view

    def with_those_of(self, other: "Pixels") -> "Pixels":
        """Return a view that answers for the keys of both, which are views on one source."""
        view = object.__new__(Pixels)
        view.keys, view._settings, view._store = self.keys | other.keys, self._settings, self._store
        return view

    def threads(self, keys: Sequence[str], allowed: int | None) -> int:
        """Return with how many threads, of those allowed, these images are read soonest: one where files are small.

        None allows one a core.
        """
        allowed = cores() if allowed is None else allowed
        if allowed <= 1:
            return allowed
        sizes = [size for size, _ in self.stamps(keys[:: -(-len(keys) // ASKED) or 1]).values()]
        return 1 if sizes and sum(sizes) < SMALL * len(sizes) else allowed

    def check(self, keys: Sequence[str]) -> dict[str, str]:
        """Decode every image once, in parallel; return the reason for each that cannot be, and emit Progress."""
        self._refuse_others(keys)

        def bad(chunk: Sequence[str]) -> list[tuple[str, str]]:
            store, decoded, held = self._store, dict[str, Decoded](), 0
            for key in chunk:
                if key in store.facts or key in store.reasons:
                    continue
                try:
                    decoded[key] = store.load(key)
                except DecodeError as error:
                    store.reasons[key] = str(error)
                    continue
                held += decoded[key].x_HWC.nbytes
                if held > TOGETHER:
                    store.take(decoded)
                    decoded, held = {}, 0
            store.take(decoded)
            return [(key, store.reasons[key]) for key in chunk if key in store.reasons]

        chunks = in_chunks(bad, keys, workers=self.threads(keys, self._settings.workers), task="integrity")
        return dict(pair for pairs in chunks for pair in pairs)

    def read(self, key: str) -> Uint8:
        """Return one image as it is kept: uint8 RGB `(h, w, 3)`, read-only; raises DecodeError."""
        self._refuse_others((key,))
        return self._store.read(key)

    def squares(
        self, keys: Sequence[str], side: int, how: Interpolation = "bilinear", drawn: Sequence[Drawn] | None = None
    ) -> Uint8:
        """Return the images as one new array x_NHWC, uint8 RGB, `side` by `side`, fitted by `fit_to_square`.

        Of each image only the part that was `drawn` for it, where that is given.
        Raises DecodeError when an image that was readable no longer is, SettingError as `scale.square` does.
        """
        self._refuse_others(keys)
        fit = self._settings.fit_to_square
        check_square(side, fit, how)
        x_NHWC = np.empty((len(keys), side, side, 3), np.uint8)

        def fill(places: Sequence[int]) -> None:
            for place in places:
                x_HWC = self._named(keys[place])
                if drawn is None:
                    x_NHWC[place] = square(x_HWC, side, fit, how)
                else:
                    x_NHWC[place] = cut(x_HWC, side, drawn[place], how)

        for _ in in_chunks(fill, range(len(keys)), workers=self.threads(keys, self._settings.workers)):
            pass
        return x_NHWC

    def thumbnail(self, key: str, side: int) -> Uint8:
        """Return one image `(h, w, 3)` with its longer side at most `side`, aspect kept."""
        return thumbnail(self.read(key), side)

    def facts(self, key: str) -> Facts:
        """Return what is remembered of an image; raises DecodeError where it cannot be read."""
        self._refuse_others((key,))
        return self._store.known(key)

    def stamps(self, keys: Sequence[str]) -> dict[str, Stamp]:
        """Return the stamp of each image's file; none where images are no files, or cannot be looked up."""
        self._refuse_others(keys)
        stamps: dict[str, Stamp] = {}
        if self._store.origin is not None:
            for key in keys:
                with suppress(OSError, ValueError):
                    stamps[key] = self._store.origin.stamp(key)
        return stamps

    def path(self, key: str) -> Path | None:
        """Return an image's file; None where it is none in a folder."""
        self._refuse_others((key,))
        origin = self._store.origin
        return None if origin is None or origin.path is None else origin.path(key)

    def remember(self, known: Mapping[str, Facts | str]) -> None:
        """Take over what an earlier process knew of images, or why they could not be read, so that none is decoded."""
        self._refuse_others(known)
        for key, value in known.items():
            if isinstance(value, str):
                self._store.reasons[key] = value
            else:
                self._store.facts[key] = value

    def sizes(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Return width and height of each image's file, upright, as (N, 2)."""
        self._refuse_others(keys)
        return np.array([self._store.known(key).size for key in keys], np.int64).reshape(-1, 2)

    def _named(self, key: str) -> Uint8:
        try:
            return self._store.read(key)
        except DecodeError as error:
            raise DecodeError(f"{key}: {error}") from error

    def _refuse_others(self, keys: Iterable[str]) -> None:
        if not self.keys.issuperset(keys):
            stranger = next(key for key in keys if key not in self.keys)
            raise InputError(
                f'The image "{stranger}" is not one of these {len(self.keys)}; it may belong to another part.'
            )
