"""saccade: from a folder of labelled images to an image classifier its owner can trust.

`fit` is the whole main path, `train_network` one network, `load` a run's classifier. The parts are libraries
of their own: `saccade.data`, `saccade.classifiers`, `saccade.train`, `saccade.study`, `saccade.report`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.classifiers import Model
    from saccade.recipe import Result

__all__ = ["fit", "load", "train_network"]


def fit(source: str | Path, *, out: str | Path | None = None, resume: bool = False, **settings: Any) -> "Result":
    """Turn labelled images into the best classifier a budget buys, evaluated once and reported.

    `settings` are those of `saccade fit`, such as `budget="2m"`, `seed=1`; with `resume` the run in
    `out` goes on where it was interrupted. Returns the run, the model and the summary. Raises
    InputError where source, settings or `out` cannot be used.
    """
    from saccade import recipe
    from saccade.settings import FitSettings

    return recipe.fit(source, FitSettings(**settings), out=_path(out), resume=resume)


def train_network(
    source: str | Path, *, out: str | Path | None = None, resume: bool = False, **settings: Any
) -> "Result":
    """Train one network with the settings of `saccade train`, such as `model="mlp"`, `epochs=5`.

    The test part stays sealed. With `resume` the run in `out` goes on where it was interrupted, to
    the same weights. Raises InputError as `fit` does, TrainingError where the loss stops being a number.
    """
    from saccade import recipe
    from saccade.settings import TrainSettings

    return recipe.train(source, TrainSettings(**settings), out=_path(out), resume=resume)


def load(run: str | Path, *, device: str = "auto") -> "Model":
    """Return the classifier of a finished run, to be computed on a device.

    Raises RunError where there is none, DeviceError where the device is unknown or fails.
    `load(run).predict(["photo.jpg"])` names what is on a photo.
    """
    from saccade.classifiers import Model
    from saccade.run import Run

    return Model.load(Run.open(Path(run)).model, device)


def _path(out: str | Path | None) -> Path | None:
    return None if out is None else Path(out)
