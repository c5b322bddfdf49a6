"""Images that are arrays already: NumPy arrays in memory and .npz files."""

import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from saccade.data.decode import Decoded
from saccade.data.imageset import ImageSet
from saccade.data.layout import natural, one_spelling
from saccade.data.pixels import Load, Pixels
from saccade.data.scale import on_white, reduced, reduction, spread, to_uint8
from saccade.errors import SourceError
from saccade.events import Finding
from saccade.settings import DataSettings

Images = NDArray[Any]
_OBJECTS = {
    "images": "where they differ in size, give a folder of image files instead",
    "labels": "save labels.astype(str)",
    "classes": "save classes.astype(str)",
}
"""What to do about an array of Python objects in an .npz file, which would have to be unpickled."""


def from_arrays(
    x: Images,
    labels: ArrayLike,
    *,
    name: str = "arrays",
    classes: Sequence[str] | None = None,
    settings: DataSettings = DataSettings(),
) -> ImageSet:
    """Return arrays as an ImageSet.

    `x` is (N, H, W), or (N, H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA, laid on white). Floats
    within 0..1 are multiplied by 255, floats within 0..255 rounded; every other type goes by
    `scale.to_uint8`, over the whole array. `labels` are N names, whole numbers or booleans (0 and 1);
    with `classes` given, numbers index it. Raises SourceError where shapes, types or values do not fit.

    >>> images = from_arrays(np.zeros((2, 8, 8)), ["cat", "dog"], name="two")
    >>> images.classes, images.keys
    (('cat', 'dog'), ('two/0', 'two/1'))
    """
    return stacked([(None, x, labels)], name=name, classes=classes, settings=settings)


def stacked(
    parts: Sequence[tuple[str | None, Images, ArrayLike]],
    *,
    name: str,
    classes: Sequence[str] | None = None,
    source: str | None = None,
    settings: DataSettings,
) -> ImageSet:
    """Return arrays that come in given parts, `(part or None, x, labels)`, as one ImageSet (see `from_arrays`).

    Its images are called by `name`; errors speak of the `source`, by default that name.
    """
    source = source or name
    place: dict[str, tuple[Images, int]] = {}
    given: list[str | None] = []
    labels = []
    for part, x, part_labels in parts:
        checked = _checked(x, source)
        labels.append(_labels(part_labels, len(checked), source))
        width = len(str(max(len(checked) - 1, 0)))
        place |= {f"{part or name}/{i:0{width}d}": (checked, i) for i in range(len(checked))}
        given += [part] * len(checked)
    labels_N, names, renamed = _numbered(np.concatenate(labels), given, classes, source)
    return ImageSet(
        source=source,
        name=name,
        keys=tuple(place),
        labels_N=labels_N,
        classes=names,
        given_parts=tuple(given),
        groups=(None,) * len(place),
        pixels=Pixels(place, _loader(place), settings),
        ignored=renamed,
    )


def from_npz(path: Path, settings: DataSettings) -> ImageSet:
    """Return the `images`, `labels` and optional `classes` of an .npz file as an ImageSet.

    Nothing in the file is unpickled. Raises SourceError where arrays are missing or do not fit.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive, np.load(path, allow_pickle=False) as file:
            _refuse_bomb(path, archive)
            arrays = {key: _array(path, file, key) for key in _OBJECTS if key in file}
            found = ", ".join(file.files) or "nothing"
    except SourceError:
        raise
    except MemoryError:  # the file is small, and the shape of an array claims otherwise
        raise SourceError(f"{path} cannot be read as .npz arrays: one claims a shape beyond all memory.") from None
    except (OSError, ValueError, EOFError, RuntimeError, TokenError, zlib.error, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be read as .npz arrays: {error}.") from error
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise SourceError(
            f"{path} lacks the array{'s' * (len(missing) - 1)} {' and '.join(missing)}; found: {found}. Name what is "
            "there so, by numpy.savez(path, images=x, labels=y)."
        )
    classes = arrays.get("classes")
    names = None if classes is None else [str(value) for value in _texts(classes.ravel())]
    parts = [(None, arrays["images"], arrays["labels"])]
    return stacked(parts, name=path.stem, classes=names, source=str(path), settings=settings)


def _array(path: Path, file: Mapping[str, NDArray[Any]], key: str) -> NDArray[Any]:
    """Return an array of an .npz file; raises SourceError, which says what to do, where it is one of objects."""
    try:
        return file[key]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        raise SourceError(
            f"The {key} of {path} are Python objects, which are not unpickled for safety; {_OBJECTS[key]}."
        ) from None


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise SourceError where arrays would not fit into memory, before any of them is unpacked."""
    size = sum(entry.file_size for entry in archive.infolist())
    free = psutil.virtual_memory().available
    if size > free:
        raise SourceError(
            f"{path} unpacks to {size / 2**30:,.1f} GiB of arrays, and {free / 2**30:,.1f} GiB of memory are free; "
            "give a folder of image files instead."
        )


def _loader(place: dict[str, tuple[Images, int]]) -> Load:
    def load(key: str) -> Decoded:
        x, i = place[key]
        image = x[i] if x.ndim == 4 else x[i][..., None]
        height, width, channels = image.shape
        rgb = on_white(image) if channels == 4 else image if channels == 3 else np.repeat(image, 3, axis=2)
        kept = np.ascontiguousarray(rgb)
        if reduction(width, height) > 1:
            kept = np.asarray(reduced(Image.fromarray(kept)))
        return Decoded(kept, (width, height))

    return load


def _checked(x: Images, name: str) -> Images:
    """Return the images as uint8 (N, H, W) or (N, H, W, C)."""
    x = np.asarray(x)
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3, 4)):
        first = x.ndim == 4 and x.shape[1] in (1, 3, 4)
        hint = " The channels seem to come first: give x.transpose(0, 2, 3, 1)." if first else ""
        raise SourceError(
            f"The images of {name} have the shape {x.shape}; expected (N, H, W) or (N, H, W, 1, 3 or 4).{hint}"
        )
    if 0 in x.shape:
        raise SourceError(f"The images of {name} have the shape {x.shape}: there are no pixels in them.")
    if x.dtype.kind not in "biuf":
        raise SourceError(f"The images of {name} are of type {x.dtype}; expected whole numbers or floats.")
    if x.dtype.kind != "f":
        return to_uint8(x)
    low, high = float(x.min()), float(x.max())
    if not np.isfinite([low, high]).all():
        raise SourceError(f"The images of {name} hold values that are not finite numbers.")
    if low >= 0 and high <= 255:
        return spread(x, 0.0, 1.0 if high <= 1 else 255.0)
    return to_uint8(x)


def _labels(labels: ArrayLike, images: int, name: str) -> NDArray[Any]:
    values = np.asarray(labels)
    if values.dtype == object and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise SourceError(
            f"The labels of {name} have the shape {values.shape}; saccade needs one label an image: N names or numbers."
        )
    if len(values) != images:
        raise SourceError(f"{name} has {images} images and {len(values)} labels; expected one label an image.")
    if values.dtype.kind in "US":
        return _texts(values)
    if values.dtype.kind not in "biuf":
        raise SourceError(f"The labels of {name} are of type {values.dtype}; expected names or whole numbers.")
    return _whole(values, name)


def _texts(values: NDArray[Any]) -> NDArray[Any]:
    """Return names as text: bytes are decoded."""
    return np.char.decode(values, "utf-8", "backslashreplace") if values.dtype.kind == "S" else values


def _whole(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return numbers as int64; raises SourceError, which names the first that is none."""
    if values.dtype.kind == "f":
        as_float = values.astype(np.float64)
        fits = (as_float == np.floor(as_float)) & (as_float >= -(2.0**63)) & (as_float < 2.0**63)
    else:
        fits = values <= np.iinfo(np.int64).max
    if not fits.all():
        raise SourceError(
            f"The labels of {name} hold {values[~fits][0]}, which is no whole number of 64 bits; expected names or "
            "whole numbers."
        )
    return values.astype(np.int64)


def _numbered(
    labels: NDArray[Any], parts: Sequence[str | None], classes: Sequence[str] | None, name: str
) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[Finding, ...]]:
    """Return labels as indices into the classes that occur, in natural order, and what was found about their names."""
    if classes is not None:
        _refuse_names(classes, name)
        parts = [None] * len(labels)  # of names in one list each is a class of its own
    if classes is not None and labels.dtype.kind == "i":
        if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
            raise SourceError(
                f"The labels of {name} go from {labels.min()} to {labels.max()}, but it names {len(classes)} classes; "
                f"expected 0 to {len(classes) - 1}."
            )
        labels = np.array(classes, dtype=str)[labels]
    texts = labels.astype(str)
    if classes is not None and (unknown := set(texts.tolist()) - set(classes)):
        raise SourceError(f'The label "{min(unknown)}" of {name} is not among its classes: {", ".join(classes)}.')
    _refuse_names(np.unique(texts).tolist(), name, repeated=False)
    spelt, renamed = one_spelling(texts.tolist(), parts)
    found, inverse = np.unique(spelt, return_inverse=True)
    names = sorted(map(str, found), key=natural)
    rank = {text: index for index, text in enumerate(names)}
    return np.array([rank[str(text)] for text in found], np.int64)[inverse], tuple(names), tuple(renamed)


def _refuse_names(names: Sequence[str], source: str, *, repeated: bool = True) -> None:
    """Raise SourceError where a class has no name, or, unless that is no fault, two have one."""
    if not all(each.strip() for each in names):
        raise SourceError(f"A class of {source} has an empty name; give each class a name of its own.")
    most = Counter(unicodedata.normalize("NFC", each) for each in names).most_common(1)
    if repeated and most and most[0][1] > 1:
        raise SourceError(
            f'The classes of {source} name "{most[0][0]}" {most[0][1]} times; give each class a name of its own.'
        )
