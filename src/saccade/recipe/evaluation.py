"""Evaluation on images that no choice was made by: the sealed test part, or new labelled images."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import data, metrics, study
from saccade.classifiers import Model
from saccade.data import ImageSet, Part, SealedPart
from saccade.data.decode import Decoded
from saccade.data.groups import by_pattern
from saccade.data.layout import class_meant
from saccade.data.pixels import Pixels
from saccade.errors import RunError, SettingError, SourceError
from saccade.events import Finding, emit, stage
from saccade.files import append_lines, expanded, write_csv
from saccade.ledger import Ledger, part_hash
from saccade.recipe.advice import confused_pairs
from saccade.recipe.candidates import Candidates
from saccade.recipe.comparison import Recorded
from saccade.recipe.pictures import draw_each, draw_pairs
from saccade.recipe.provenance import used
from saccade.run import GROUP, PREDICTIONS, Run
from saccade.settings import DataSettings
from saccade.study.compare import compare
from saccade.study.ensemble import bootstrap_interval


@dataclass(frozen=True)
class Look:
    """One look at a part: its images, the model's probabilities (N, K) on them, and the figures."""

    part: Part
    probabilities_NK: NDArray[np.float64]
    figures: dict[str, Any]


def look(model: Model, sealed: SealedPart, ledger: Ledger, run: Run, command: str, *, recorded: bool = False) -> Look:
    """Unseal a part, which records the look first unless it is `recorded`, and measure the model on it."""
    part, looked = sealed.unseal(ledger, run=str(run.path.absolute()), command=command, recorded=recorded)
    rows_MNK = model.by_member_of(part)
    probabilities_NK = model.averaged(rows_MNK)
    figures = study.evaluate(probabilities_NK, part.labels_N, model.classes, part.images.keys, part.groups_N)
    gain = {} if len(rows_MNK) == 1 else {"averaging": averaging_gain(model, rows_MNK, part.labels_N, part.groups_N)}
    return Look(part, probabilities_NK, {**figures, **gain, "looks": len(looked), "looked": looked})


def averaging_gain(
    model: Model,
    rows_MNK: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return what averaging members changed against the first, the best of them on validation: same images, one look.

    `log_loss` is the fall of the mean log loss, with its 95 % interval; the rest is as `study.compare` tells it.
    """
    average_NK = model.averaged(rows_MNK)
    answers = compare(average_NK.argmax(1) == labels_N, rows_MNK[0].argmax(1) == labels_N, groups_N)
    saved_N = metrics.losses_N(rows_MNK[0], labels_N) - metrics.losses_N(average_NK, labels_N)
    return {
        "over": model.members[0].name,
        **asdict(answers),
        "interval": list(answers.interval),
        "log_loss": float(saved_N.mean()),
        "log_loss_interval": list(bootstrap_interval(saved_N, groups_N)),
    }


def look_once(model: Model, sealed: SealedPart, ledger: Ledger, candidates: Candidates, run: Run) -> Look:
    """Look at a run's test part as `look` does; where the run was interrupted after the ledger knew, it counts once."""
    mine = {"run": str(run.path.absolute()), "command": "fit"}
    before = candidates.noted("looks")
    looks = ledger.looks(sealed.content_hash)
    if before is None:
        candidates.note("looks", len(looks))
        return look(model, sealed, ledger, run, "fit")
    recorded = any(mine.items() <= each.items() for each in looks[before:])
    return look(model, sealed, ledger, run, "fit", recorded=recorded)


def without(look: Look, leaked: frozenset[str]) -> dict[str, Any]:
    """Return accuracy, interval and number of a part's images that have no near-duplicate in training or validation.

    Empty where all have none, or none is left.
    """
    clean_N = np.array([key not in leaked for key in look.part.images.keys])
    if clean_N.all() or not clean_N.any():
        return {}
    right_N = (look.probabilities_NK.argmax(1) == look.part.labels_N)[clean_N]
    return {"without_leaks": metrics.judged(right_N, look.part.groups_N[clean_N])}


def keep(look: Look, run: Run, model: Model) -> dict[str, Any]:
    """Write predictions.csv and pictures of mistakes and confused pairs into the run; return figures with them."""
    keys, labels_N, groups = look.part.images.keys, look.part.labels_N, look.part.images.groups
    predicted_N = look.probabilities_NK.argmax(1)
    columns = PREDICTIONS if set(groups) == {None} else (*PREDICTIONS, GROUP)
    rows = (
        (key, model.classes[label], model.classes[predicted], f"{row_K[predicted]:.6f}", group or "")[: len(columns)]
        for key, label, predicted, row_K, group in zip(
            keys, labels_N, predicted_N, look.probabilities_NK, groups, strict=True
        )
    )
    write_csv(run.predictions, columns, rows)
    worst = look.figures["mistakes"]
    names = draw_each(run, look.part, [mistake["path"] for mistake in worst], "mistake")
    pictured = [{**mistake, "picture": name} for mistake, name in zip(worst, names, strict=True)]
    pairs = confused_pairs(look.figures["confusion"], model.classes)
    return {
        **look.figures,
        "mistakes": pictured,
        "pairs": draw_pairs(run, look.part, look.probabilities_NK, pairs),
    }


def evaluate(path: Path, source: str | Path | None = None, device: str = "auto") -> dict[str, Any]:
    """Measure a run's model on its own test part, or on new labelled images; either look is counted.

    Of a source that has a test part, only that part is used. Where the run's images lie elsewhere by now, the source
    may be that place: of one that holds all test images, these are measured. Where the source gives some of them
    another class than the run recorded, its classes count, as those of new images do, and a Finding of the kind "label"
    names them. Raises RunError where the run or its test images are no longer what they were; SourceError where images
    have classes the model does not know, or new ones were used to train or choose it; DeviceError where the device to
    predict on is unknown or fails.
    """
    run = Run.open(path)
    ledger = Ledger.default().ready()
    with stage("load"):
        model = Model.load(run.model, device)
    with stage("open"):
        images, own = _own_test(run, model) if source is None else _given(source, run, model)
        leaked = _leaked(run) if own else frozenset[str]()
    recorded = [row["hash"] for row in _tested(run)]
    with stage("evaluate") as record:
        sealed = SealedPart(Part("test", images))
        if not set(recorded).isdisjoint(images.hashes()):  # some of the run's test images: a look at its test part
            sealed.content_hash = part_hash(recorded)
        seen = look(model, sealed, ledger, run, "evaluate")
        record.outcome = f"accuracy {seen.figures['accuracy']:.1%}"
        figures = {**keep(seen, run, model), **without(seen, leaked)} if own else seen.figures
    if others := [*_others(run, sealed, ledger, device)]:
        figures = {**figures, "name": model.name, "others": others}
    figures = {**figures, "run": str(run.path), "source": images.source, "own": own}
    append_lines(run.evaluations, [figures])
    return figures


def _leaked(run: Run) -> frozenset[str]:
    """Return the leaks that a run found: those of its test part have a near-duplicate in an earlier one."""
    return frozenset(key for finding in run.read("findings") if finding["kind"] == "leak" for key in finding["paths"])


def _others(run: Run, sealed: SealedPart, ledger: Ledger, device: str) -> Iterator[dict[str, Any]]:
    """Yield the figures of the other classifiers that a run of `saccade baselines` saved, a counted look each."""
    for folder in sorted(run.models.glob("*")):
        model = Model.load(folder, device)
        with stage("evaluate") as record:
            seen = look(model, sealed, ledger, run, f"evaluate ({model.name})").figures
            record.outcome = f"{model.name}: accuracy {seen['accuracy']:.1%}"
        told = ("accuracy", "interval", "macro_f1", "calibration_error", "log_loss", "images", "groups", "looks")
        yield {"name": model.name, **{name: seen[name] for name in told}}


def _own_test(run: Run, model: Model) -> tuple[ImageSet, bool]:
    """Return the run's own test images, found again by name and compared by content; and as `_relabelled` does."""
    source = run.read_summary()["source"]
    recorded = {row["image"]: row for row in _tested(run)}
    try:
        images = data.open(source, settings_of(run))
    except SourceError as error:
        gone = not expanded(source).exists() and source.casefold() not in data.known_datasets()
        why = (
            f"The run's images lay in {source}, where there is no such source any more;"
            if gone
            else f"The run's images cannot be opened again. {error} Mend that, or"
        )
        command = f"saccade evaluate {quote(str(run.path))} FOLDER"
        raise RunError(f"{why} give where they lie now: {command}.") from error
    images = images.select([place for place, key in enumerate(images.keys) if key in recorded])
    unreadable = images.pixels.check(images.keys)
    changed = [key for key in recorded if key not in images.pixels.keys or key in unreadable]
    changed += [
        key for key in images.keys if key not in unreadable and images.pixels.facts(key).hash != recorded[key]["hash"]
    ]
    if changed:
        raise RunError(
            f"{len(changed)} of the run's {len(recorded)} test images are missing or changed in {source} "
            f"({changed[0]}, …); put them back, or give where they lie now, or new labelled images."
        )
    return _relabelled(images, recorded.values(), model)


def _tested(run: Run) -> list[dict[str, str]]:
    """Return split.csv's rows of a run's test part."""
    return [row for row in run.read_split() if row["part"] == "test"]


def _given(source: str | Path, run: Run, model: Model) -> tuple[ImageSet, bool]:
    """Return the readable images of a source, or of its test part where it has one, and whether they are the run's own.

    Where all of the run's test images are among images that it knows, the source is where its own lie by now: they are
    returned alone, as `_relabelled` does. What was used to train or choose is refused else.
    """
    settings = settings_of(run)
    images = data.open(source, settings.model_copy(update={"group_pattern": None}))
    if "test" in images.given_parts:
        images = images.select([i for i, part in enumerate(images.given_parts) if part == "test"])
    images = data.readable(images)
    known, recorded, hashes = used(run), _tested(run), images.hashes()
    tested = {row["hash"] for row in recorded}
    seen = sum(digest in known for digest in hashes)
    if recorded and tested.issubset(hashes) and (seen or tested.issuperset(hashes)):
        if len(recorded) < len(images):
            detail = f"{source} holds all {len(recorded):,} test images of the run: they alone are measured."
            emit(Finding(kind="seen", detail=detail))
        return _relabelled(_grouped_as(run, _named_as(recorded, images, model, settings), settings), recorded, model)
    if seen:
        raise SourceError(
            f"{seen} of the {len(images)} images in {source} were used to train or choose this model; give new ones, "
            "or no source to measure the run's own test part."
        )
    images = _grouped(images, settings)
    for finding in images.ignored:
        emit(finding)
    return _labelled(images, model), False


def _grouped(images: ImageSet, settings: DataSettings) -> ImageSet:
    """Return the images grouped by the run's pattern, which need not be in the names of new ones."""
    if settings.group_pattern is not None:
        with suppress(SettingError):
            return by_pattern(images, settings.group_pattern)
    return images


def _grouped_as(run: Run, images: ImageSet, settings: DataSettings) -> ImageSet:
    """Return the run's test images in the groups of their source or of their names, or else of predictions.csv."""
    images = _grouped(images, settings)
    if any(images.groups):
        return images
    group_of = {row["image"]: row.get(GROUP) or None for row in Recorded(run.path.name, run).predictions or []}
    return replace(images, groups=tuple(map(group_of.get, images.keys)))


def _named_as(recorded: Sequence[dict[str, str]], images: ImageSet, model: Model, settings: DataSettings) -> ImageSet:
    """Return the images of split.csv's rows, found by their content, under the names that they have there.

    Of copies each is taken once while there are others, one of the recorded class first.
    """
    meant = [class_meant(name, model.classes) for name in images.classes]
    places: dict[str, list[int]] = {}
    for place, digest in enumerate(images.hashes()):
        places.setdefault(digest, []).append(place)
    chosen = []
    for row in recorded:
        copies = places[row["hash"]]
        chosen.append(next((i for i in copies if meant[images.labels_N[i]] == row["class"]), copies[0]))
        if len(copies) > 1:
            copies.remove(chosen[-1])
    found = images.select(chosen)
    key_of = {row["image"]: key for row, key in zip(recorded, found.keys, strict=True)}

    def load(name: str) -> Decoded:
        return Decoded(images.pixels.read(key_of[name]), images.pixels.facts(key_of[name]).size)

    return replace(found, keys=tuple(key_of), pixels=Pixels(key_of, load, settings))


def _relabelled(images: ImageSet, recorded: Iterable[dict[str, str]], model: Model) -> tuple[ImageSet, bool]:
    """Return a run's test images with the labels that their source gives now, and whether these are the recorded ones.

    A Finding names those that are not.
    """
    images = _labelled(images, model)
    before = {row["image"]: row["class"] for row in recorded}
    now = zip(images.keys, images.labels_N, strict=True)
    changed = tuple(key for key, label in now if before[key] != model.classes[label])
    if changed:
        detail = (
            f"of another class in {images.source} than the run recorded: measured by the classes given now; the run's "
            "own figures and report stay as they are"
        )
        emit(Finding(kind="label", detail=detail, paths=changed, severity="warning"))
    return images, not changed


def _labelled(images: ImageSet, model: Model) -> ImageSet:
    """Return the images with labels by name that index the model's classes, whichever letter case they are in."""
    names = [images.classes[label] for label in images.labels_N]
    meant = {name: class_meant(name, model.classes) for name in sorted(set(names))}
    if unknown := [name for name, taken in meant.items() if taken is None or (taken != name and taken in meant)]:
        raise SourceError(
            f'{images.source} has images of the class "{unknown[0]}", which the model does not know; '
            f"it knows {', '.join(model.classes[:10])}{', …' if len(model.classes) > 10 else ''}."
        )
    for name, taken in meant.items():
        if taken != name:
            detail = f'taken for the class "{taken}", as the model spells it'
            emit(Finding(kind="class-name", detail=detail, paths=(name,)))
    place = {name: model.classes.index(taken) for name, taken in meant.items() if taken}
    return replace(images, classes=model.classes, labels_N=np.array([place[name] for name in names], np.int64))


def settings_of(run: Run) -> DataSettings:
    """Return how a run read and split its images."""
    saved = run.read_settings()
    return DataSettings(**{name: saved[name] for name in DataSettings.model_fields if name in saved})
