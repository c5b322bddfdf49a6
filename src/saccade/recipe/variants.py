"""One network trained with each of several settings, on the same images; their curves together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from saccade import report
from saccade.data.layout import unique_keys
from saccade.device import release_memory
from saccade.errors import NO_MEMORY, InputError, ModelError, SettingError, TrainingError, out_of_memory
from saccade.events import Event, Finding, StageEnded, StageStarted, emit, sifted, stage
from saccade.files import slug, write_json
from saccade.interrupts import goes_on
from saccade.nn import zoo
from saccade.recipe.conclusion import Result
from saccade.recipe.stages import train
from saccade.run import RUNS, Run, refuse_place
from saccade.settings import TrainSettings

HISTORY = ("step", "epoch", "seconds", "loss", "validation_loss", "validation_accuracy")


def train_each(
    source: str | Path, variants: Mapping[str, TrainSettings], *, out: Path | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train one network with each of `variants`, settings by name; return what they came to, as plain values.

    Each is a run of its own in a folder of `out`, with an equal share of the budget that all were given; budgets that
    differ, and epochs, are each one's own. All are on the same split whatever their seeds; `same_images` is told to be
    false where what is varied splits otherwise. One that cannot be trained to its end, or has not enough memory, is
    recorded with its error, the others go on; of folds of the same settings the mean and the standard deviation are
    told. `comparison.json` and `comparison.html` lie beside them.
    With `resume` those that are finished stay as they are. Raises InputError, before anything is written, where
    source, settings or `out` cannot be used; TrainingError where none of the trainings came to an end.
    """
    variants = _shared(_split_alike(variants))
    for settings in variants.values():
        zoo.check_known(settings.model)
        zoo.check_choices(settings)
    if resume and out is None:
        Run.resume(out)  # says that the folder is to be named
    places = unique_keys(variants, slug)
    begun = _begun(out, places)
    if not (resume and begun):
        refuse_place(source, out, unfinished=begun)
    folder = out or RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{slug(Path(source).name)[:50]}-each"
    rows: list[dict[str, Any]] = []
    once = Once()
    with goes_on(folder):
        for number, (place, name) in enumerate(places.items()):
            with stage(f"{number + 1} of {len(variants)}: {name}") as record:
                with once.told():
                    row = _row(name, source, variants[name], folder / place, resume=resume, first=number == 0)
                failed = row["error"] is not None
                record.outcome = "failed" if failed else f"validation accuracy {row['validation_accuracy']:.1%}"
                rows.append(row)
    if all(row["error"] is not None for row in rows):
        raise TrainingError(f"None of the {len(rows)} trainings came to an end. {rows[0]['name']}: {rows[0]['error']}")
    compared = {"schema": 1, "source": str(source), "folder": str(folder), "runs": rows}
    compared["folds"] = _folds(variants, rows)
    compared["same_images"] = _same_images([Run(Path(row["run"])) for row in rows if row["error"] is None])
    compared["page"] = str(report.write_comparison(folder, compared))
    write_json(folder / "comparison.json", compared)
    return compared


class Once:
    """Hands on a stage, and a kind of finding about the data, in the first of several trainings alone.

    How each was trained is told every time.
    """

    def __init__(self) -> None:
        self._before: set[str] = set()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Sift what is emitted in the block, one training."""
        now: set[str] = set()

        def keep(event: Event) -> bool:
            match event:
                case StageStarted(stage=name) | StageEnded(stage=name) if name != "train":
                    now.add(name)
                    return name not in self._before
                case Finding(kind=kind) if kind in report.KINDS:
                    now.add(kind)
                    return kind not in self._before
            return True

        with sifted(keep):
            yield
        self._before |= now


def _split_alike(variants: Mapping[str, TrainSettings]) -> dict[str, TrainSettings]:
    """Return the settings with the seed of the first as that of the split, where it is another and none is given."""
    seed = next(iter(variants.values())).seed
    return {
        name: each.model_copy(update={"split_seed": seed}) if each.split_seed is None and each.seed != seed else each
        for name, each in variants.items()
    }


def _shared(variants: Mapping[str, TrainSettings]) -> dict[str, TrainSettings]:
    """Return the settings with an equal share of the one budget that all were given; as they are where it varies."""
    budgets = {each.budget for each in variants.values()}
    shared = next(iter(budgets)) if len(budgets) == 1 else None
    if shared is None:
        return dict(variants)
    return {name: each.model_copy(update={"budget": shared / len(variants)}) for name, each in variants.items()}


def _same_images(runs: Sequence[Run]) -> bool:
    """Return whether all runs have the same images in the same parts."""
    splits = [sorted((row["image"], row["part"]) for row in run.read_split()) for run in runs]
    return all(split == splits[0] for split in splits)


def _row(
    name: str, source: str | Path, settings: TrainSettings, out: Path, *, resume: bool, first: bool
) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "run": str(out), "error": None}
    try:
        result = train(source, settings, out=out, resume=resume, one_of_several=True)
    except (TrainingError, SettingError, ModelError) as error:
        if first and not isinstance(error, TrainingError):
            _discard_empty(out.parent)
            raise
        reason = str(error)
    except InputError:
        if first:
            _discard_empty(out.parent)
        raise
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        reason = NO_MEMORY
    else:
        return {**told, **_figures(result)}
    release_memory()
    emit(Finding(kind="training", severity="warning", detail=f"{name}: {reason}"))
    return {**told, "error": reason, "history": _history(Run(out))}


def _discard_empty(folder: Path) -> None:
    """Remove a folder where nothing was trained, so that nothing is left."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _figures(result: Result) -> dict[str, Any]:
    network, validation = result.summary["network"], result.summary["validation"]
    history = _history(result.run)
    return {
        "validation_accuracy": validation["accuracy"],
        "interval": validation["interval"],
        "validation_loss": history[-1]["validation_loss"] if history else None,
        "parameters": network["parameters"],
        "epochs": network["epochs"],
        "seconds": network["seconds"],
        "history": history,
        "activations": network.get("activations"),
    }


def _folds(variants: Mapping[str, TrainSettings], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each of the settings that was trained on several folds, the mean and standard deviation over them."""
    found: dict[str, list[float]] = {}
    for (name, settings), row in zip(variants.items(), rows, strict=True):
        if settings.fold is not None and row["error"] is None:
            alike = name.replace(f"fold={settings.fold}", "").strip()
            found.setdefault(alike, []).append(row["validation_accuracy"])
    several = {name: values for name, values in found.items() if len(values) > 1}
    return [
        {"name": name, "folds": len(values), "mean": mean(values), "sd": stdev(values)}
        for name, values in several.items()
    ]


def _history(run: Run) -> list[dict[str, Any]]:
    return [{name: line.get(name) for name in HISTORY} for line in run.history()]


def _begun(out: Path | None, places: Iterable[str]) -> bool:
    """Return whether a folder holds nothing but what trainings into these folders of it leave."""
    names = {*places, "comparison.json", "comparison.html"}
    return out is not None and out.is_dir() and all(path.name in names for path in out.iterdir())
