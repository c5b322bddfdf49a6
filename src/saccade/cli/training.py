"""The commands that train: `fit` and `train`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli.options import Assignments, Config, Json, Out, Resume, Source, resolve
from saccade.cli.output import answer, working
from saccade.cli.summary import result_text, variants_text
from saccade.settings import FitSettings, TrainSettings


def fit(
    source: Source,
    /,
    *,
    settings: Annotated[FitSettings, Parameter(name="*")] = FitSettings(),
    out: Out = None,
    config: Config = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Turn labelled images into an honestly evaluated classifier, within a time budget."""
    settings = resolve(settings, config)
    with working():
        from saccade import recipe
        from saccade.train.budget import Clock

        clock = Clock.of_command(settings.budget)
        summary = recipe.fit(source, settings, out=out, clock=clock, resume=resume).summary
    answer(summary, result_text(summary), json=json)


def train(
    source: Source,
    /,
    *,
    settings: Annotated[TrainSettings, Parameter(name="*")] = TrainSettings(),
    out: Out = None,
    config: Config = None,
    assignments: Assignments = (),
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train one network with explicit settings, or one with each of several."""
    variants = resolve(settings, config).variants(assignments)
    if len(variants) > 1:
        _train_each(source, variants, out, resume=resume, json=json)
        return
    [settings] = variants.values()
    with working():
        from saccade import recipe
        from saccade.train.budget import Clock

        clock = Clock.of_command(settings.budget)
        summary = recipe.train(source, settings, out=out, clock=clock, resume=resume).summary
    answer(summary, result_text(summary), json=json)


def _train_each(
    source: str, variants: Mapping[str, TrainSettings], out: Path | None, *, resume: bool, json: bool
) -> None:
    with working():
        from saccade import recipe

        compared = recipe.train_each(source, variants, out=out, resume=resume)
    answer(compared, variants_text(compared), json=json)
