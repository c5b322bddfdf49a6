"""The audit's page: what was found, kind by kind, the gravest first, with pictures to judge by."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any

from PIL import Image

from saccade.files import write_atomic
from saccade.palette import PALETTE
from saccade.report.kinds import KINDS, title
from saccade.report.page import environment
from saccade.report.pictures import Picture, data_url
from saccade.words import clean

LISTED = 100
"""Names written out of one finding; the command's --json has all."""
BEGINNING = r"(?s)\s*<!doctype html>.*<title>Audit of .* · saccade</title>"
"""What the text of a page begins like, as a regular expression."""
_SEVERITIES = ("error", "warning", "note")


def write_page(path: Path, value: Mapping[str, Any], thumbnails: Mapping[str, bytes], most: int) -> None:
    """Write what `recipe.audit` found, with up to `most` of the `thumbnails` (JPEG, by name) a finding, as one file."""
    write_atomic(path, render(value, thumbnails, most))


def render(value: Mapping[str, Any], thumbnails: Mapping[str, bytes], most: int) -> str:
    """Return the page as HTML: no script, nothing loaded from elsewhere."""
    pictures = {name: _picture(data) for name, data in thumbnails.items()}
    doubts = {suspect["key"]: suspect for suspect in value["suspects"]}
    kinds: dict[str, list[dict[str, Any]]] = {}
    for finding in value["findings"]:
        starts = set(accumulate(finding["groups"][:-1]))  # where a group begins that has another before it
        kinds.setdefault(finding["kind"], []).append({
            **clean(finding),
            "paths": [clean(path) for path in finding["paths"][:LISTED]],
            "count": len(finding["paths"]),
            "shown": [_shown(path, pictures[path], doubts.get(path), place in starts)
                      for place, path in enumerate(finding["paths"][:most]) if path in pictures],
        })  # fmt: skip
    sections = [
        {
            "kind": kind, "title": title(kind), "meaning": KINDS.get(kind, ("", ""))[1], "rows": rows,
            "files": sum(row["count"] for row in rows),
            "severity": min((row["severity"] for row in rows), key=_SEVERITIES.index),
        }
        for kind, rows in kinds.items()
    ]  # fmt: skip
    sections.sort(key=lambda section: _SEVERITIES.index(section["severity"]))
    most_images = max(value["classes"].values(), default=1)
    context = {"value": clean({**value, "findings": [], "suspects": []}), "sections": sections, "palette": PALETTE,
               "most": most_images}  # fmt: skip
    return environment().get_template("audit.html.jinja").render(context)


def _shown(path: str, picture: Picture, doubt: Mapping[str, Any] | None, starts: bool) -> dict[str, Any]:
    return {"path": clean(path), "picture": picture, "doubt": clean(doubt) if doubt else None, "starts": starts}


def _picture(data: bytes) -> Picture:
    with Image.open(BytesIO(data), formats=["JPEG"]) as image:
        return Picture(data_url(data, "image/jpeg"), *image.size)


def summary_rows(value: Mapping[str, Any]) -> Sequence[tuple[str, str, int, int]]:
    """Return `(severity, title, findings, images)` of each kind found, the gravest first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for finding in value["findings"]:
        found.setdefault(finding["kind"], []).append(finding)
    rows = [
        (min((row["severity"] for row in each), key=_SEVERITIES.index), title(kind), len(each),
         sum(len(row["paths"]) for row in each))
        for kind, each in found.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: _SEVERITIES.index(row[0]))
