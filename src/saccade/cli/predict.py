"""The command `predict`: labels for images, folders and archives."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from saccade.cli.options import Device, Json
from saccade.cli.output import answer, working
from saccade.cli.text import percent, printable
from saccade.errors import InputError, SaccadeError
from saccade.events import Finding, Progress, emit
from saccade.files import replaceable, writable, write_csv
from saccade.run import Places, Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from saccade.classifiers.saved import Model, Prediction
    from saccade.cli.inputs import Input

BATCH = 256
"""Images held in memory at once."""

TABLE = r"path,label,probability(,label_\d+,probability_\d+)*,error\n"
"""The first line of a table of predictions, whatever the number of classes told."""

Row = dict[str, Any]


def predict(
    run: Path,
    /,
    *paths: Path,
    top: Annotated[int, Parameter(help="Classes to tell of each image.", validator=Number(gte=1))] = 3,
    csv: Annotated[Path | None, Parameter(help="Write the predictions as a table, too.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Label images, folders and archives with a run's classifier.

    Parameters
    ----------
    run
        The folder that `saccade fit` or `saccade train` wrote.
    paths
        Images, folders (searched to any depth) and .zip or .tar archives.
    """
    _check(paths, csv, run)
    opened = Run.open(run)
    with working():
        from saccade.classifiers import Model
        from saccade.cli.inputs import find, is_source

        model = Model.load(opened.model, device)
        if not opened.finished:
            detail = f"The run in {run} has not finished: this is its best classifier so far, {model.name}."
            emit(Finding(kind="unfinished", detail=detail, severity="warning"))
        inputs = find(paths)
        rows = []
        for first in range(0, len(inputs), BATCH):
            rows += _label(model, inputs[first : first + BATCH], top)
            emit(Progress(task="predict", done=len(rows), total=len(inputs), unit="images"))
    if not rows:
        raise InputError(
            f"There are no images in {', '.join(map(str, paths))}; give images, folders or archives of them."
        )
    failed = all(row["error"] for row in rows)
    if failed and not any(path.is_dir() or is_source(path) for path in paths):
        raise InputError(
            f"{paths[0]} cannot be labelled ({rows[0]['error']}); give images, folders or archives of them."
        )
    if csv is not None:
        write_csv(csv, *_table(rows))
    answer({"predictions": rows}, "\n".join(map(_line, rows)), json=json)
    if failed:
        raise SaccadeError(f"None of the {len(rows)} files could be read as an image.")


def _check(paths: Sequence[Path], csv: Path | None, run: Path) -> None:
    if not paths:
        raise InputError("`saccade predict` needs PATH: images, folders or archives. See `saccade predict --help`.")
    if not any(path.exists() for path in paths):
        raise InputError(f"There is no file or folder {paths[0]}; give images, folders or archives.")
    if csv is not None:
        _refuse_table(csv, paths, run)


def _refuse_table(csv: Path, paths: Sequence[Path], run: Path) -> None:
    """Raise InputError where a table cannot be written, or would take the place of anything but another such table."""
    from saccade.cli.inputs import is_source

    if csv.is_dir() or not writable(csv.absolute().parent):
        raise InputError(f"The table {csv} cannot be written; give --csv the name of a file in a folder to write to.")
    if csv.resolve() in {path.resolve() for path in paths} or is_source(csv):
        raise InputError(f"{csv} is what images come from, not a table to write; give --csv a name such as labels.csv.")
    places = Places(run)
    if csv.resolve() in {path.resolve() for path in (places.split, places.seen, places.predictions)}:
        raise InputError(f"{csv} is where the run keeps its own records; give --csv another name.")
    if not replaceable(csv, TABLE):
        raise InputError(f"{csv} already exists and is no table of predictions; give --csv another name, or remove it.")


def _label(model: "Model", inputs: "Sequence[Input]", top: int) -> list[Row]:
    """Return a row for each input, in order; what cannot be read has an error and no label."""
    from saccade.data.parallel import in_chunks

    def read_all(chunk: "Sequence[Input]") -> "list[NDArray[np.uint8] | str]":
        return [one.pixels() for one in chunk]

    read = [each for chunk in in_chunks(read_all, inputs, workers=None) for each in chunk]
    predictions = iter(model.predict([each for each in read if not isinstance(each, str)], top=top))
    return [
        _failed(one.name, pixels) if isinstance(pixels, str) else _labelled(one.name, next(predictions))
        for one, pixels in zip(inputs, read, strict=True)
    ]


def _labelled(path: str, prediction: "Prediction") -> Row:
    top = [list(pair) for pair in prediction.top]
    return {"path": path, "label": prediction.label, "probability": prediction.probability, "top": top, "error": None}


def _failed(path: str, reason: str) -> Row:
    return {"path": path, "label": None, "probability": None, "top": [], "error": reason}


def _line(row: Row) -> str:
    if row["error"]:
        return f"{printable(row['path'])}: {printable(row['error'])}"
    likeliest = ", ".join(f"{printable(label)} {percent(probability)}" for label, probability in row["top"])
    return f"{printable(row['path'])}: {likeliest}"


def _table(rows: Sequence[Row]) -> tuple[list[str], Iterator[list[object]]]:
    """Return header and rows of the CSV table: the likeliest class first, then the others asked for."""
    ranks = max((len(row["top"]) for row in rows), default=1)
    header = ["path", "label", "probability"]
    for rank in range(2, ranks + 1):
        header += [f"label_{rank}", f"probability_{rank}"]

    def cells(row: Row) -> list[object]:
        told = [cell for pair in row["top"] for cell in pair]
        told += [""] * (2 * ranks - len(told))
        return [row["path"], *told, row["error"] or ""]

    return [*header, "error"], map(cells, rows)
