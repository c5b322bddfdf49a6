"""The commands that read a finished run: `evaluate` and `report`."""

from pathlib import Path

from saccade.cli.options import Device, Json
from saccade.cli.output import answer, working
from saccade.cli.summary import evaluation_text
from saccade.run import Run


def evaluate(run: Path, source: str | None = None, /, *, device: Device = "auto", json: Json = False) -> None:
    """Measure a run on its test part (a counted look) or on new labelled images.

    Parameters
    ----------
    run
        The folder that `saccade fit` or `saccade train` wrote.
    source
        New labelled images, or the place where the run's own lie by now; the default is its own test part.
    """
    Run.open(run)
    with working():
        from saccade import recipe

        test = recipe.evaluate(run, source, device)
    answer(test, evaluation_text(test), json=json)


def report(run: Path, /, *, json: Json = False) -> None:
    """Write a run's HTML report again; of a run that is not finished, what there is so far.

    Parameters
    ----------
    run
        The folder that `saccade fit` or `saccade train` wrote.
    """
    opened = Run.open(run, unfinished=True)
    with working():
        from saccade import report as reports

        path = reports.write(opened)
    answer({"report": str(path)}, f"Report  {path}", json=json)
