"""The commands that list what is known by name: `models` and `datasets`."""

from saccade.cli.options import Json
from saccade.cli.output import answer, working


def models(*, json: Json = False) -> None:
    """List the networks that can be trained."""
    with working():
        from saccade.nn import zoo

        names = zoo.names()
    answer({"models": names}, "\n".join(name for family in names.values() for name in family), json=json)


def datasets(*, json: Json = False) -> None:
    """List the data sets known by name."""
    with working():
        from saccade import data

        known = data.known_datasets()
    lines = [f"{name:<14} {description}" for name, description in known.items()]
    answer({"datasets": known}, "\n".join(lines), json=json)
