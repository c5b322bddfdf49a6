"""One self-contained HTML page of what each augmentation does to a source's own images, and which keep their class."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from saccade import words
from saccade.palette import PALETTE
from saccade.report.page import environment
from saccade.report.pictures import Picture

VERDICTS = {"yes": "keeps the class", "no": "may change the class", "undecided": "too few images to tell"}


def render_augmentations(told: Mapping[str, Any], pictures: Mapping[str, Sequence[Picture]]) -> str:
    """Return the page as HTML, from what `recipe.preview_augmentations` tells and a strip of images for each strength.

    No script, and nothing loaded from elsewhere.
    """
    rows = [{**words.clean(each), "pictures": pictures[each["name"]]} for each in told["augmentations"]]
    command = f"saccade train {quote(str(told['source']))} {told['settings']}"
    context = {
        "rows": rows,
        "original": pictures["original"][0],
        "source": words.clean(str(told["source"])),
        "classes": len(told["classes"]),
        "command": words.clean(command) if told["settings"] else "",
        "palette": PALETTE,
        "verdicts": VERDICTS,
    }
    return environment().get_template("augmentations.html.jinja").render(context)
