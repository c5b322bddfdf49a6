"""The command that searches for settings: `search`."""

from collections.abc import Mapping
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Config, Json, Out, Source, resolve, several
from saccade.cli.output import answer, working
from saccade.cli.text import count, percent, printable
from saccade.errors import SettingError
from saccade.settings import SearchSettings
from saccade.words import assignments, plural

FIXED = ("budget", "replay", "patience", "snapshots", "views", "test_views")
"""Settings that a trial has as the search has them: it is trained for whole epochs, and sees images as they are."""
Ranges = Annotated[
    tuple[str, ...],
    several(
        "What to search over, as name=low:high, name=low:high:log or name=a,b …; the default is learning rate, "
        "weight decay where the optimizer has one, and translate and cutout where they are not given, as a file does "
        "with other values than the defaults."
    ),
]


def search(
    source: Source,
    /,
    *,
    settings: Annotated[SearchSettings, Parameter(name="*")] = SearchSettings(),
    space: Ranges = (),
    out: Out = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Search for the settings of one network that do best on validation images; several processes may work on one."""
    given, settings = settings.model_fields_set, resolve(settings, config, fixed=FIXED)
    with working():
        from saccade.recipe.ranges import parse_space
        from saccade.recipe.search import search as run

        ranges = parse_space(space)
        if both := [name for name in ranges if name in given]:
            option = f"--{both[0].replace('_', '-')}"
            raise SettingError(f"{option} and --space {both[0]}=… exclude each other: give one of them.")
        told = run(source, settings, space=ranges or None, given=given, out=out)
    answer(told, text(told), json=json)


def text(told: Mapping[str, Any]) -> str:
    """Return what a search came to as a few lines."""
    from saccade.report.search import judgement

    best = told["best"]
    spread = "" if best.get("sd") is None else f" ± {100 * best['sd']:.1f}"
    seeds = len(best["accuracies"])
    repeated = f" over {plural(seeds, 'fresh seed')}" if seeds else ""
    rows = [("Best", assignments(best["settings"])), ("Validation", f"{percent(best['mean'])}{spread}{repeated}")]
    if judged := judgement(told):
        rows.append(("", judged))
    rows += [
        ("Beside it", f"{percent(each['mean'])} {assignments(each['settings'])}{_unsteady(each)}")
        for each in told["finalists"]
        if each["settings"] != best["settings"]
    ]
    tried = [trial for trial in told["trials"] if trial["settings"] is not None]
    stopped = sum(trial["state"] == "stopped" for trial in tried)
    rows.append(("Trials", f"{count(len(tried))}, {count(stopped)} of them stopped early"))
    if told["complete"] and sum(trial["stage"] != "final" for trial in tried) < told["asked"]:
        rows.append(("", f"{count(told['asked'])} were asked for, but no other settings are left to try"))
    if told["importance"]:
        shares = (f"{name} {100 * share:.0f} %" for name, share in told["importance"].items())
        rows.append(("Matters", ", ".join(shares)))
    rows.append(("Drawn", f"{told['folder']}/search.html"))
    chosen = quote(f"{told['folder']}/settings.yaml")
    rows.append(("Go on", f"saccade train {quote(told['source'])} --config {chosen}"))
    if told["side"] is not None:
        rows.append(("", f"the trials were of images of {told['side']} px: --size {told['side']} trains on such ones"))
    return "\n".join(f"{name:<11}{printable(told_of)}" for name, told_of in rows)


def _unsteady(finalist: Mapping[str, Any]) -> str:
    stopped = finalist["stopped"]
    seeds = plural(stopped + len(finalist["accuracies"]), "seed")
    return f"; stopped with {count(stopped)} of {seeds}" if stopped else ""
