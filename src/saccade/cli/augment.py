"""The command `augment`: what each augmentation does to a source's images, and which keep their class."""

from collections.abc import Mapping
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Json, Out, Source
from saccade.cli.output import answer, working
from saccade.cli.text import percent, printable
from saccade.settings import DataSettings
from saccade.words import plural


def augment(
    source: Source,
    /,
    *,
    settings: Annotated[DataSettings, Parameter(name="*")] = DataSettings(),
    out: Out = None,
    json: Json = False,
) -> None:
    """Show what each augmentation does to a source's images, and which keep their class.

    A page and a sheet of pictures are written; a quick probe measures how far a small network that saw no
    augmentation still labels validation images that are so changed.
    """
    with working():
        from saccade.recipe import preview_augmentations

        told = preview_augmentations(source, settings, out=out)
    answer(told, augmentations_text(told), json=json)


def augmentations_text(told: Mapping[str, Any]) -> str:
    """Return what `augment` says: each augmentation's verdict, the options that follow, where the pictures are."""
    rows = told["augmentations"]
    first = rows[0]
    seen = plural(first["images"], "validation image")
    lines = [f"{percent(first['accuracy'])} of {seen} are labelled right as they are.", ""]
    lines += [_line(row) for row in rows]
    train = f"saccade train {quote(printable(told['source']))} {told['settings']}"
    lines += ["", f"To try, one or a few at a time:  {train}" if told["settings"] else ""]
    return "\n".join([*lines, "", f"Pictures  {printable(told['page'])}"])


def _line(row: Mapping[str, Any]) -> str:
    levels = row["levels"]
    seen = ", ".join(f"{percent(level['accuracy'])} at {level['strength']:.3g}" for level in levels)
    verdict = {
        "yes": f"keeps the class up to {row['kept']:.3g}" if len(levels) > 1 else "keeps the class",
        "no": "may change the class",
        "undecided": "too few images to tell",
    }[row["verdict"]]
    return f"{row['name']:<12} {verdict:<29} {seen}"
