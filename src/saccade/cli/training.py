"""The commands that train: `fit` and `train`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from saccade.cli.options import Config, Json, Out, Resume, Source, Variants, resolve, resolve_each
from saccade.cli.output import answer, working
from saccade.cli.summary import result_text, variants_text
from saccade.errors import SettingError
from saccade.settings import FitSettings, TrainSettings


@dataclass(frozen=True, kw_only=True)
class Several:
    """What makes several trainings of one."""

    assignments: Variants = ()
    folds: Annotated[int | None, Parameter(validator=Number(gte=2, lte=1000))] = None
    """Train once for each of so many parts of the training and validation images, which is held out."""

    def added_to(self, given: TrainSettings) -> list[str]:
        """Return the assignments, the one that holds out each fold in turn among them.

        Raises SettingError where one fold is `given` by an option, too.
        """
        if self.folds is None:
            return [*self.assignments]
        if given.fold is not None:
            raise SettingError("Fold and folds exclude each other: give one of them.")
        folds = (f"{fold}/{self.folds}" for fold in range(1, self.folds + 1))
        return [*self.assignments, f"fold={','.join(folds)}"]


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
    several: Annotated[Several, Parameter(name="*")] = Several(),
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train one network with explicit settings, or one with each of several."""
    variants = resolve_each(settings, config, several.added_to(settings))
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
