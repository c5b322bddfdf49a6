"""Averages on several data sets: other seeds, snapshots of one run, EMA, SWA and more views, chosen on validation.

    python benchmarks/ensembles.py DIGITS CIFAR CLOTHING [--images 800] [--epochs 8] [--seed 0]

Sources are data sets' names, folders or archives. On each, at most so many training images: three networks of other
seeds, one training with three snapshots, one with EMA, one with SWA; each predicts from the image and its mirror
image (where the class is kept), the first also from eight further views. Then a greedy average among all of them, and
whether it is kept, by validation; the test images are looked at once for each data set, in a ledger of the benchmark's
own. Writes results/ensembles.json as it goes.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _common import RESULTS, write

from saccade import audit, data, metrics, study
from saccade.data import Part, Parts
from saccade.ledger import Ledger
from saccade.recipe.averages import averaged
from saccade.recipe.candidates import Candidate
from saccade.recipe.evaluation import averaging_gain
from saccade.recipe.finishing import calibrated_model
from saccade.recipe.network import start
from saccade.recipe.plan import full_side, native_side
from saccade.settings import TrainSettings
from saccade.study.baselines import stratified_share
from saccade.train import Pace
from saccade.train.session import Session

SIDE = 32
"""The largest side of the images, so that a training takes seconds."""
KINDS: dict[str, dict[str, Any]] = {
    "seed 1": {"seed": 1},
    "seed 2": {"seed": 2},
    "seed 3": {"seed": 3},
    "snapshots": {"seed": 1, "snapshots": 3, "schedule": "cosine"},
    "EMA": {"seed": 1, "ema": 0.99},
    "SWA": {"seed": 1, "swa": 0.25},
}


def few(parts: Parts, images: int) -> Parts:
    """Return the parts with at most so many training images, all classes alike."""
    train, validation = (stratified_share(part, images) for part in (parts.train, parts.validation))
    return replace(parts, train=train, validation=validation)


def candidates(parts: Parts, settings: TrainSettings, kinds: Sequence[str]) -> Iterator[tuple[str, Candidate]]:
    """Train and yield every candidate by name; of the first seed also one with further views."""
    for name in kinds:
        session = start(parts.train, settings.model_copy(update=KINDS[name]))
        course = session.course(Pace.fixed(session.steps(settings.epochs or 1.0)))
        for _ in course:
            pass
        snapshots = course.training.snapshots
        if snapshots is not None:
            for number, _ in enumerate(snapshots.each(), 1):
                yield f"cycle {number}", predicted(session.on_trial(), parts.validation)
            continue
        yield name, predicted(session, parts.validation)
        if name == "seed 1":
            seeing = replace(session, forward=replace(session.forward, further=8, moves={"translate": 0.0625}))
            yield "seed 1, 8 further views", predicted(seeing, parts.validation)


def predicted(session: Session, validation: Part) -> Candidate:
    """Return a trained session as a candidate."""
    return Candidate(*calibrated_model(session, validation))


def measured(source: str, images: int, epochs: float, seed: int) -> dict[str, Any]:
    """Return what averaging came to on one source: on validation, and on the test images."""
    settings = TrainSettings(seed=seed, split_seed=seed, epochs=epochs)
    found = data.integrity(data.open(source, settings))
    groups_N = audit.duplicates(found)
    parts = few(data.split(found, groups_N, settings, audit.near_duplicates(found, groups_N).groups_N), images)
    side = min(SIDE, full_side(native_side(parts.train)))
    flip = study.mirror_symmetric(parts).symmetric
    chosen = {"size": side, "batch_size": 32, "width": 0.25, "flip": flip, "views": flip}
    named = dict(candidates(parts, settings.model_copy(update=chosen), list(KINDS)))
    together = averaged([*named.values()], parts.validation.labels_N, [*named])
    test, _ = parts.test.unseal(Ledger.default().ready(), run="benchmark", command="ensembles")
    test = stratified_share(test, images)
    rows_MNK = together.candidate.model.by_member_of(test)
    gain = averaging_gain(together.candidate.model, rows_MNK, test.labels_N)
    alone = {name: each.model.probabilities_of(test) for name, each in named.items()}
    told = together.plain(together.candidate.name if together.ensemble.accepted else "the best alone")
    for member in told["members"]:
        member["test_accuracy"] = metrics.accuracy(alone[member["name"]].argmax(1), test.labels_N)
    return {"source": Path(source).name, "train": len(parts.train), "validation": len(parts.validation),
            "side": side, "flip": flip, **told, "test": gain}  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """Return one row of the table."""
    test = row["test"]
    low, high = (100 * bound for bound in test["interval"])
    return (
        f"| {row['source']} | {100 * row['best_accuracy']:.1f} | {100 * row['accuracy']:.1f} | {row['gain']:.3f} "
        f"({row['interval'][0]:.3f} to {row['interval'][1]:.3f}) | {100 * row['disagreement']:.1f} | "
        f"{'kept' if row['accepted'] else 'refused'} | {100 * test['difference']:+.1f} ({low:+.1f} to {high:+.1f}) | "
        f"{test['log_loss']:.3f} ({test['log_loss_interval'][0]:.3f} to {test['log_loss_interval'][1]:.3f}) |"
    )


def main() -> None:
    """Measure every source and write results/ensembles.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    told = {name: getattr(given, name) for name in ("images", "epochs", "seed")}
    place, rows = RESULTS / "ensembles.json", []
    if place.exists():
        before = json.loads(place.read_text())
        rows = before["rows"] if all(before.get(name) == value for name, value in told.items()) else []
    with TemporaryDirectory() as folder:
        os.environ["SACCADE_STATE"] = folder
        for source in given.sources:
            if Path(source).name not in {row["source"] for row in rows}:
                rows.append(measured(source, given.images, given.epochs, given.seed))
                write("ensembles", {**told, "rows": rows})
            print(line(next(row for row in rows if row["source"] == Path(source).name)), flush=True)


if __name__ == "__main__":
    main()
