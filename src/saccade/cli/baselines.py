"""The command `baselines`: classical classifiers alone, cross-validated."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Config, Json, Out, Source, resolve
from saccade.cli.output import answer, working
from saccade.cli.summary import result_text
from saccade.cli.text import count, percent, seconds, table
from saccade.settings import BaselineSettings


def baselines(
    source: Source,
    /,
    *,
    settings: Annotated[BaselineSettings, Parameter(name="*")] = BaselineSettings(),
    out: Out = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Cross-validate classical classifiers, on pixels and on features; the test part stays sealed."""
    settings = resolve(settings, config)
    with working():
        from saccade import recipe
        from saccade.train.budget import Clock

        clock = Clock.of_command(None)
        summary = recipe.baselines(source, settings, out=out, clock=clock).summary
    answer(summary, f"{baselines_text(summary)}\n\n{result_text(summary)}", json=json)


def baselines_text(summary: Mapping[str, Any]) -> str:
    """Return the table of the classifiers: the setting chosen for each, and its accuracy over the folds."""
    from saccade.words import told_values

    header = [f"Over {summary['folds']} folds", "chosen of", "setting", "accuracy", "features", "time"]
    rows = [
        [
            each["name"],
            count(len(each["settings"])),
            told_values(each["chosen"]),
            f"{percent(each['mean'])} ± {100 * each['sd']:.1f}",
            count(each["features"]),
            seconds(each["seconds"]),
        ]
        for each in summary["classifiers"]
    ]
    return table(header, rows)
