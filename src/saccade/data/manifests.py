"""CSV and Parquet tables of images: `path,label[,split][,group]`, paths relative to the table's folder.

What stands between a CSV's cells is what its first line has most of: commas, semicolons or tabs.
"""

import csv
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saccade.data.layout import part_named
from saccade.errors import SourceError, first_line
from saccade.events import Finding
from saccade.files import original

_REQUIRED = ("path", "label")
_COLUMNS = (*_REQUIRED, "split", "group")
_SEPARATORS = "|;,"
_DELIMITERS = ",;\t"  # the semicolon is that of spreadsheets where the comma is the decimal point
_LONGEST_HEAD = 10_000
_NUMBER = re.compile(r"-?[0-9]+(\.0+)?")


@dataclass(frozen=True)
class Row:
    """One image of a manifest."""

    path: str
    label: str
    part: str | None
    group: str | None


def read_manifest(path: Path) -> tuple[list[Row], list[Finding]]:
    """Return a table's rows, sorted by path, and what was found beside them.

    Rows without a label are left out. Raises SourceError where columns are missing, a split is
    unknown, the table is damaged, an image is given twice with two labels, splits or groups, or labels are lists.
    """
    table = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    rows: dict[str, Row] = {}
    unlabelled, repeated = [], []
    for cells in _whole(table):
        if not any(cells.values()):
            continue
        if not cells["path"]:
            raise SourceError(f'{path} has a row without a path (its label is "{cells["label"]}").')
        row = _row(cells, path)
        known = rows.get(row.path)
        if not row.label:
            unlabelled.append(row.path)
        elif known is None:
            rows[row.path] = row
        else:
            _refuse_conflict(known, row, path)
            rows[row.path] = replace(known, group=known.group or row.group)
            repeated.append(row.path)
    findings = [
        Finding(kind="ignored", detail=detail, paths=tuple(paths), severity="warning")
        for detail, paths in (
            ("rows without a label: left out", unlabelled),
            ("rows given more than once: counted once", repeated),
        )
        if paths
    ]
    findings += _several({row.label for row in rows.values()}, path)
    return sorted(rows.values(), key=lambda row: row.path), findings


def _whole(table: Collection[dict[str, str]]) -> Collection[dict[str, str]]:
    """Return a table whose labels, where all are whole numbers, have no point: 1.0 is 1, as of numbers some missing."""
    if not all(_NUMBER.fullmatch(cells["label"]) for cells in table if cells["label"]):
        return table
    return [{**cells, "label": cells["label"].partition(".")[0]} for cells in table]


def _row(cells: Mapping[str, str], manifest: Path) -> Row:
    part = part_named(cells["split"]) if cells["split"] else None
    if cells["split"] and part is None:
        raise SourceError(f'{manifest}: the split "{cells["split"]}" is unknown; expected train, validation or test.')
    label, group = original(cells["label"]), original(cells["group"])
    return Row(_place(cells["path"], manifest.parent), label, part, group or None)


def _place(path: str, folder: Path) -> str:
    """Return a path as it is written here: with "/" for the backslashes of Windows, where there is such a file."""
    turned = path.replace("\\", "/")
    there = turned != path and os.path.isfile(folder / turned)  # noqa: PTH113 (a name may be too long to be one)
    return posixpath.normpath(turned if there else path)


def _refuse_conflict(one: Row, other: Row, manifest: Path) -> None:
    if one.label != other.label:
        raise SourceError(
            f'{manifest} gives "{one.path}" two labels, "{one.label}" and "{other.label}"; saccade needs one label an '
            "image: keep one row for each."
        )
    if one.part != other.part:
        raise SourceError(f'{manifest} puts "{one.path}" into two splits; keep one row for each image.')
    if one.group and other.group and one.group != other.group:
        raise SourceError(f'{manifest} puts "{one.path}" into two groups; keep one row for each image.')


def _several(labels: Iterable[str], manifest: Path) -> list[Finding]:
    """Tell of most labels being made of parts that other labels have too, as where an image has several labels.

    Raises SourceError where that is sure.
    """
    for separator in _SEPARATORS:
        parts = {label: [part.strip() for part in label.split(separator) if part.strip()] for label in labels}
        uses = Counter(part for each in parts.values() for part in {*each})
        made = sorted(
            label for label, each in parts.items() if len({*each}) > 1 and any(uses[part] > 1 for part in each)
        )
        if 2 * len(made) > len(parts):
            if _lists(parts.values(), uses):
                raise SourceError(
                    f'{manifest} gives images several labels, separated by "{separator}", such as "{made[0]}"; saccade '
                    "needs one label an image: keep one, or write another sign where such a list names one class."
                )
            detail = (
                f'look like several labels in one, separated by "{separator}": each is taken for one class, as saccade '
                "knows one label an image"
            )
            return [Finding(kind="several-labels", detail=detail, paths=tuple(made), severity="warning")]
    return []


def _lists(parts: Collection[Sequence[str]], uses: Mapping[str, int]) -> bool:
    """Return whether labels of such parts are surely lists: most are made of parts of others, and few parts make many.

    Names in several words, such as "hat|red" and "animal|cat", keep each in its place; where places have a meaning,
    as in "red, white" of roof and body, a name may have one word twice, or the words of another the other way round.
    """
    whole = [each for each in parts if len(each) > 1 and all(uses[part] > 1 for part in each)]
    places: dict[str, set[int]] = {part: set() for part in uses if uses[part] > 1}
    for each in parts:
        for place, part in enumerate(each):
            places.get(part, set()).add(place)
    moved = [part for part, where in places.items() if len(where) > 1]
    # Of lists in the order of the alphabet the first word and the last may never move, of at least three.
    return (
        2 * len(whole) > len(parts) >= len(uses)
        and 3 * len(moved) >= len(places)
        and all(len({*each}) == len(each) for each in whole)
        and len({frozenset(each) for each in whole}) == len(whole)
    )


def _csv(path: Path) -> Collection[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            head = file.readline(_LONGEST_HEAD)
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(_DELIMITERS, key=head.count))
            columns = _columns(reader.fieldnames or (), path)
            return [
                {name: (row.get(column) or "").strip() if column else "" for name, column in columns.items()}
                for row in reader
            ]
    except (OSError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read as CSV: {error}.") from error


def _parquet(path: Path) -> Collection[dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        columns = _columns(names, path)
        table = pq.read_table(path, columns=[column for column in columns.values() if column])
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {first_line(error)}.") from error
    values: dict[str, list[Any]] = table.to_pydict()
    if any(isinstance(label, list | dict) for label in values[columns["label"]]):
        raise SourceError(f"{path}: the column label holds several labels an image; saccade needs one label an image.")
    return [
        {name: _text(values[column][i]) if column else "" for name, column in columns.items()}
        for i in range(table.num_rows)
    ]


def _text(value: object) -> str:
    if isinstance(value, bytes):  # text that nobody marked as such
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, float):  # whole numbers, which pandas keeps so where some are missing
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    return "" if value is None else str(value).strip()


def _columns(found: Iterable[str], path: Path) -> dict[str, str]:
    """Return for each known column what the table calls it (letter case is free), or an empty string.

    Columns without a name, such as the index that pandas writes, are none.
    """
    found = [name for name in found if name.strip()]
    named = {name.strip().casefold(): name for name in found}
    if twice := {name for name in _COLUMNS if [each.strip().casefold() for each in found].count(name) > 1}:
        raise SourceError(f"{path} has the column {min(twice)} more than once; keep one of them.")
    missing = [name for name in _REQUIRED if name not in named]
    if missing and not all(name.isprintable() for name in named):
        raise SourceError(f"{path} is no table of text: give lines such as path,label and cats/1.jpg,cat, in UTF-8.")
    if missing:
        raise SourceError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {' and '.join(missing)}; expected path and "
            f"label (and split and group if you like), found: {', '.join([*named][:10]) or 'nothing'}."
        )
    return {name: named.get(name, "") for name in _COLUMNS}
