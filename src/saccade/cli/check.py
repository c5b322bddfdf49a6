"""The command `check`: the verdict page before training, or the gradients of a layer of one's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Assignments, Config, Json, Out, resolve
from saccade.cli.output import answer, working
from saccade.cli.text import printable, seconds
from saccade.errors import SettingError
from saccade.settings import TrainSettings

Layer = Annotated[
    tuple[str, ...],
    Parameter(
        consume_multiple=(1, None),
        negative=(),
        show_default=False,
        help="FILE.py [SHAPE …]: check the gradients of the layers in a Python file, which is code and is run, on "
        "inputs of shapes such as 4x5 5x3 3.",
    ),
]


def check(
    source: str | None = None,
    /,
    *,
    settings: Annotated[TrainSettings, Parameter(name="*")] = TrainSettings(),
    layer: Layer = (),
    out: Out = None,
    config: Config = None,
    assignments: Assignments = (),
    json: Json = False,
) -> None:
    """Ask all that can be known before training: first loss, gradients, planted faults, a learning rate that works.

    Exits with 0 whatever the answers are; --json tells of each whether it passed. Without --budget it takes a
    minute at the most, and names what it left out for lack of time.

    Parameters
    ----------
    source
        A folder, archive, manifest or array file of labelled images, or a data set's name; none with --layer.
    """
    if (source is None) != bool(layer):
        raise SettingError("Give either a source of images to check a network on, or --layer FILE.py to check a layer.")
    settings = resolve(settings, config, assignments)
    shapes = [_shape(each) for each in layer[1:]]
    with working():
        from saccade.recipe import checking
        from saccade.train.budget import Clock

        if source is None:
            told = checking.check_file(Path(layer[0]), shapes, seed=settings.seed)
        else:
            told = checking.check(source, settings, out=out, clock=Clock.of_command(settings.budget))
    answer(told, checks_text(told), json=json)


def checks_text(told: Mapping[str, Any]) -> str:
    """Return what `check` says: a block a check, then where the page is."""
    lines = []
    for each in told["checks"]:
        lines.append(f"{'passed' if each['passed'] else 'FAILED'}  {each['name']}: {each['measured']}")
        if not each["passed"]:
            lines += [f"        expected: {each['expected']}", f"        {each['advice']}"]
    passed = sum(each["passed"] for each in told["checks"])
    lines.append(f"{passed} of {len(told['checks'])} passed")
    if told.get("left_out"):
        longer = f"give a longer --budget than {seconds(told['budget_seconds'])}"
        lines.append(f"Left out for lack of time: {', '.join(told['left_out'])}; {longer}")
    if "run" in told:
        lines.append(f"Page    {told['run']}/report.html")
    return "\n".join(map(printable, lines))


def _shape(text: str) -> tuple[int, ...]:
    """Return a shape from what was typed.

    >>> _shape("4x5")
    (4, 5)
    """
    sides = text.lower().split("x")
    if not all(side.isdigit() and int(side) > 0 for side in sides):
        raise SettingError(f'"{text}" is not a shape; expected whole numbers such as 4x5.')
    return tuple(map(int, sides))
