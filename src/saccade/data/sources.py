"""Open any source of labelled images: folder, archive, manifest, arrays, or a data set's name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from saccade.data.arrays import from_npz
from saccade.data.decode import Decoded, decode
from saccade.data.groups import by_pattern
from saccade.data.imageset import ImageSet
from saccade.data.layout import Tree, arrange, natural, one_spelling, printable, unique_keys
from saccade.data.manifests import read_manifest
from saccade.data.named import known_datasets, open_named
from saccade.data.pixels import Origin, Pixels
from saccade.data.trees import Folder, Tar, Zip, read_file, stamp_of
from saccade.errors import SourceError, did_you_mean
from saccade.events import Finding
from saccade.files import expanded
from saccade.run import kind_of
from saccade.settings import DataSettings

Opener = Callable[[Path, DataSettings], ImageSet]


def open(source: str | Path, settings: DataSettings = DataSettings()) -> ImageSet:
    """Return the images of a source by name and label; nothing is decoded yet.

    `source` is a folder (`class/…`, or `train|val|valid|validation|test/class/…`), a .zip or .tar
    (.gz, .bz2, .xz) of one, a CSV or Parquet manifest (`path,label[,split][,group]`), an .npz
    (`images`, `labels`, optional `classes`), or one of `known_datasets()`. Classes are matched by
    name and sorted in natural order; images are sorted by name, whatever the file system's order.
    Where `settings` has a group pattern, images are grouped by it. Raises SourceError where there is no such
    source, or it has no images; SettingError where the pattern finds nothing.
    """
    if not str(source):
        raise SourceError("The source is an empty text; give a folder, a file, or a data set's name.")
    path = expanded(source)
    if path.exists():
        images = _opener(path)(path, settings)
    elif str(source).casefold() in known_datasets():
        images = open_named(str(source).casefold(), settings)
    else:
        raise SourceError(_absent(str(source), path))
    images = replace(images, source=printable(str(source)))
    return images if settings.group_pattern is None else by_pattern(images, settings.group_pattern)


def _opener(path: Path) -> Opener:
    if path.is_dir():
        if (kind := kind_of(path)) is not None:
            raise SourceError(
                f"{path} is the folder of {kind}, as saccade left it, and no source of images; give the images that "
                "it was made from."
            )
        return lambda path, settings: _from_tree(Folder(path), path, settings)
    if not path.is_file():
        raise SourceError(f"{path} is neither a folder nor a file; {_EXPECTED}.")
    name = path.name.lower()
    for suffix, opener in _BY_SUFFIX.items():
        if name.endswith(suffix):
            if path.stat().st_size == 0:
                raise SourceError(f"The file {path} is empty (0 bytes).")
            return opener
    raise SourceError(f"{path} is not a source saccade knows by its extension; {_EXPECTED}.")


def _absent(source: str, path: Path) -> str:
    siblings: Mapping[str, str] = {}
    if path.parent.is_dir():
        siblings = {str(path.parent / entry.name): entry.name for entry in path.parent.iterdir()}
    hint = did_you_mean(source, [*known_datasets(), *siblings]) or did_you_mean(path.name, siblings.values())
    return (
        f'There is no "{printable(source)}": neither a file or folder, nor a data set known by name.'
        f"{printable(hint) or ' Known by name are: ' + ', '.join(known_datasets()) + '.'}"
    )


def _from_tree(tree: Tree, path: Path, settings: DataSettings) -> ImageSet:
    labelled, findings = arrange(tree, printable(str(path)))
    files = unique_keys(image.file for image in labelled)

    def load(key: str) -> Decoded:
        return decode(tree.read(files[key]))

    place = (lambda key: tree.root / files[key]) if isinstance(tree, Folder) else None
    return _image_set(
        path,
        list(files),
        [image.label for image in labelled],
        parts=[image.part for image in labelled],
        groups=[None] * len(files),
        pixels=Pixels(files, load, settings, Origin(lambda key: tree.stamp(files[key]), place)),
        ignored=findings,
    )


def _from_manifest(path: Path, settings: DataSettings) -> ImageSet:
    rows, findings = read_manifest(path)
    if not rows:
        raise SourceError(f"{path} lists no labelled images.")
    files = unique_keys(row.path for row in rows)

    def place(key: str) -> Path:
        return path.parent / files[key]

    def load(key: str) -> Decoded:
        return decode(read_file(place(key)))

    return _image_set(
        path,
        list(files),
        [row.label for row in rows],
        parts=[row.part for row in rows],
        groups=[row.group for row in rows],
        pixels=Pixels(files, load, settings, Origin(lambda key: stamp_of(place(key)), place)),
        ignored=findings,
    )


def _image_set(
    path: Path,
    keys: Sequence[str],
    labels: Sequence[str],
    *,
    parts: Sequence[str | None],
    groups: Sequence[str | None],
    pixels: Pixels,
    ignored: Sequence[Finding],
) -> ImageSet:
    labels, renamed = one_spelling(labels, parts)
    classes = tuple(sorted(set(labels), key=natural))
    number = {name: index for index, name in enumerate(classes)}
    return ImageSet(
        source=str(path),
        name=printable(path.absolute().name),
        keys=tuple(keys),
        labels_N=np.array([number[label] for label in labels], np.int64),
        classes=classes,
        given_parts=tuple(parts),
        groups=tuple(groups),
        pixels=pixels,
        ignored=(*ignored, *renamed),
    )


def _from_tar(path: Path, settings: DataSettings) -> ImageSet:
    return _from_tree(Tar(path), path, settings)


_BY_SUFFIX: Mapping[str, Opener] = {
    ".zip": lambda path, settings: _from_tree(Zip(path), path, settings),
    ".tar": _from_tar,
    ".tar.gz": _from_tar,
    ".tgz": _from_tar,
    ".tar.bz2": _from_tar,
    ".tbz2": _from_tar,
    ".tar.xz": _from_tar,
    ".txz": _from_tar,
    ".csv": _from_manifest,
    ".parquet": _from_manifest,
    ".pq": _from_manifest,
    ".npz": from_npz,
}
_EXPECTED = f"give a folder of class folders, or a file that ends in {', '.join(_BY_SUFFIX)}"
