"""The command `audit`: what is wrong or doubtful about labelled images."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Config, Json, Source, resolve
from saccade.cli.output import answer, working
from saccade.cli.text import count, printable, seconds
from saccade.settings import AuditSettings
from saccade.words import listed, plural

Fix = Annotated[
    Path | None, Parameter(help="Write a manifest without the bad images, and with groups, to give to `fit`.")
]
Page = Annotated[
    Path | None, Parameter(help="Where the page with pictures goes; the default is runs/audit-<source>.html.")
]


def audit(
    source: Source,
    /,
    *,
    settings: Annotated[AuditSettings, Parameter(name="*")] = AuditSettings(),
    fix: Fix = None,
    page: Page = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Look for what is wrong with labelled images, before anything is trained on them; no file is changed."""
    settings = resolve(settings, config)
    with working():
        from saccade.recipe.audit import audit as audit_source
        from saccade.report.audit import summary_rows

        value = audit_source(source, settings, fix=fix, page=page)
    answer(value, audit_text(value, summary_rows(value)), json=json)


def audit_text(value: Mapping[str, Any], rows: Any) -> str:
    """Return what `audit` says: a table of what was found by kind, and where to look."""
    lines = [f"{plural(value['images'], 'image')}, {plural(len(value['classes']), 'class')}"]
    if rows:
        width = max(len(title) for _, title, _, _ in rows)
        lines += [f"  {severity:<7}  {title:<{width}}  {count(images):>9}" for severity, title, _, images in rows]
    else:
        lines.append("  Nothing doubtful was found.")
    lines.append(f"Took  {seconds(value['seconds'])}")
    lines.append(f"Page  {printable(value['page'])}")
    if "fix" in value:
        empty = f"; none is left of {listed(value['emptied'])}" if value["emptied"] else ""
        lines.append(f"Left out  {value['left_out']:,} of {plural(value['images'], 'image')}{empty}")
        if len(value["classes"].keys() - value["emptied"]) > 1:
            lines.append(f"Fit   saccade fit {quote(printable(value['fix']))}")
    return "\n".join(lines)
