"""Options that several commands share."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from saccade.settings import Settings
from saccade.values import assigned, from_file

AnySettings = TypeVar("AnySettings", bound=Settings)


def several(told: str, name: str | None = None) -> Parameter:
    """Return an option that takes one word or more, from its help."""
    return Parameter(name=name, consume_multiple=(1, None), negative=(), show_default=False, help=told)


Source = Annotated[
    str, Parameter(help="A folder, archive, manifest or array file of labelled images, or a data set's name.")
]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as one JSON object.")]
Resume = Annotated[
    bool, Parameter(name="--resume", negative=(), help="Go on with the run in --out DIR that was interrupted.")
]
Device = Annotated[str, Parameter(help="Where to compute: auto, cpu, cuda, cuda:N or mps.")]
Out = Annotated[Path | None, Parameter(help="The run's folder; the default is runs/<time>-<source>.")]
Config = Annotated[Path | None, Parameter(help="A file of settings, such as an earlier run's settings.yaml.")]
Assignments = Annotated[tuple[str, ...], several("Settings as key=value ….", name="--set")]
Variants = Annotated[
    tuple[str, ...],
    several("Settings as key=value …; key=a,b trains one network with each value and compares them.", name="--set"),
]

EXCLUSIVE = {"epochs": "budget", "budget": "epochs"}
"""A setting that, where it is given, by an option or an assignment, takes the place of another one from the file."""


def resolve(
    given: AnySettings, config: Path | None, assignments: Sequence[str] = (), *, fixed: Collection[str] = ()
) -> AnySettings:
    """Return the settings of the file `config`, then the options `given`, then key=value `assignments`.

    What the command itself has `fixed` is taken from no file. Their `model_fields_set` are those to which one of the
    three gives a value. Raises SettingError as `Settings.load` and `Settings.override` do.
    """
    return _under(given, config, assignments, fixed).override(assignments)


def resolve_each(given: AnySettings, config: Path | None, assignments: Sequence[str]) -> dict[str, AnySettings]:
    """Return the same for each combination of values that `assignments` give, by name: see `Settings.variants`."""
    return _under(given, config, assignments).variants(assignments)


def _under(
    given: AnySettings, config: Path | None, assignments: Sequence[str], fixed: Collection[str] = ()
) -> AnySettings:
    """Return the settings that assignments are to be applied to: of the file, what nothing else takes the place of."""
    kind = type(given)
    options = {name: getattr(given, name) for name in given.model_fields_set}
    named = {*options, *assigned(assignments)}
    replaced = {*fixed, *named, *(EXCLUSIVE[name] for name in named & EXCLUSIVE.keys())}
    told = from_file(config) if config else {}
    replaced |= {name for name in kind.model_fields if told.get(name) is None}
    return kind(**{**{name: value for name, value in told.items() if name not in replaced}, **options})
