"""What to do next: what a run's watch and figures advise about training, photos, labels, classes and time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.events import Finding
from saccade.recipe.plan import full_side
from saccade.study.curves import Forecast, LearningCurve
from saccade.train.rules import RULES
from saccade.words import duration, listed, percent, plural

CONFIDENT = 0.9
PAIRS, CLASSES = 4, 4
HARDLY = 0.005
"""A gain in accuracy that nobody would notice: half a point."""
GOOD_RECALL, CLASS_GAIN = 0.95, 0.02
FEWEST_SEEN = 10
"""Images of a class, below which one found more or less would change what is said of it."""
BOASTING = 0.1
"""How much surer than right a classifier may be on average for its certainty to be taken for a sign."""
FEW_EPOCHS, MANY_EPOCHS = 10, 40
WHOLE = 0.95
"""Of a pass over the images, which may be called one."""
WATCHED, TROUBLES = [*(rule.kind for rule in RULES), "went back"], 2
"""Kinds of what the watch finds, the most serious first, and how many of them are told."""
# What is worth trying although nobody measured it, in points of accuracy, to put it among what was measured.
NO_NETWORK, CUT_SHORT, SMALLEST = 0.05, 0.02, 0.03


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run knows when it ends.

    `classes` and `counts` are all classes and their training images; `figures` are those of the part looked at
    (`per_class`, `confusion`, `mistakes`), `recalls` the chosen classifier's on validation, of so many `held` images
    of each class; `network` its facts, or None where none was trained; `trials` are accuracies of the same network at
    a `share` of its training; `budget` is the time given and `seconds` the time taken; `native` is the images' own side
    in pixels; `unbalanced` tells that choices were made by macro F1; `findings` are all that was found on the way.
    """

    chosen: str
    classes: Sequence[str]
    counts: Sequence[int]
    figures: Mapping[str, Any]
    recalls: Sequence[float | None] = ()
    held: Sequence[int] = ()
    curve: LearningCurve | None = None
    network: Mapping[str, Any] | None = None
    trials: Sequence[Mapping[str, float]] = ()
    budget: float | None = None
    seconds: float = 0.0
    native: int | None = None
    unbalanced: bool = False
    findings: Sequence[Finding] = ()

    @property
    def looked_at(self) -> int:
        """How many images the figures are of."""
        return int(np.sum(self.figures.get("confusion") or [[self.figures.get("images") or 0]]))

    @property
    def mistakes(self) -> int:
        """How many of them were named wrongly."""
        table = self.figures.get("confusion")
        return self.looked_at - int(np.trace(table)) if table else 0

    @property
    def boast(self) -> float:
        """How much higher its probabilities are, on average, than how often it is right."""
        filled = [row for row in self.figures.get("calibration") or [] if row["images"]]
        gap = sum(row["images"] * (row["confidence"] - row["accuracy"]) for row in filled)
        return float(gap / max(self.looked_at, 1))

    @property
    def error(self) -> float:
        """The share of them, which is what is left to gain."""
        return self.mistakes / max(self.looked_at, 1)


@dataclass(frozen=True)
class Step:
    """One piece of advice, and about how much accuracy is in it, by which advice is ordered."""

    kind: str
    text: str
    worth: float


def next_steps(known: Evidence) -> dict[str, Any]:
    """Return summary.json's "next": `advice` in order of expected use, `learning_curve`, `pairs` and `classes`.

    Advice has a `kind` (training, photos, classes, labels, confusion, budget) and a `text`; it claims no more than
    was measured. What went wrong in training comes first: it explains the figures that all other advice goes by.
    Pairs are without their pictures: `pictures.draw_pairs` adds them.
    """
    pairs = confused_pairs(known.figures.get("confusion") or [], known.classes)
    weak = weak_classes(known)
    steps = [*_photos(known), *_of_classes(known, weak), *_labels(known), *_confusion(known, pairs), *_budget(known)]
    steps = sorted([*_training(known), *steps], key=lambda step: -step.worth)
    return {
        "advice": [{"kind": step.kind, "text": step.text.replace("\u00a0", " ")} for step in steps],
        "learning_curve": known.curve.plain() if known.curve else None,
        "pairs": pairs,
        "classes": weak,
    }


def confused_pairs(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the most confused pairs: `true`, `predicted`, `count`, and the `images` of the true class.

    >>> confused_pairs([[8, 2], [0, 9]], ["cat", "dog"])
    [{'true': 'cat', 'predicted': 'dog', 'count': 2, 'images': 10, 'pictures': []}]
    """
    if not len(confusion):
        return []
    counts_KK = np.array(confusion, np.int64)
    totals_K = counts_KK.sum(1)
    np.fill_diagonal(counts_KK, 0)
    order = np.argsort(-counts_KK, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(place), len(classes)) for place in order if counts_KK.flat[place]]
    return [
        {"true": classes[row], "predicted": classes[column], "count": int(counts_KK[row, column]),
         "images": int(totals_K[row]), "pictures": []}
        for row, column in places
    ]  # fmt: skip


def weak_classes(known: Evidence) -> list[dict[str, Any]]:
    """Return the classes for which more photos would help most: `class`, `images`, `recall`, `seen`, `part` and `gain`.

    `recall` is that of the `seen` images of a `part`: validation, or "" for those that the figures are of.
    With a learning curve those whose recall still rose from its last point but one to the last, the largest rise
    first, and `gain` is that rise without the part that chance explains; without a curve those found more rarely
    than the others that have no more than the usual number of images, the weakest first, and `gain` is None.
    """
    rows: list[dict[str, Any]] = [
        {"class": name, "images": int(known.counts[place]), "recall": recall, "seen": _seen(known, place),
         "part": "validation" if known.recalls else "", "gain": None}
        for place, name in enumerate(known.classes)
        if (recall := _recall(known, place)) is not None and recall < GOOD_RECALL
    ]  # fmt: skip
    if known.curve is None:
        usual, average = float(np.median(known.counts)), _mean_recall(known)
        rows = [row for row in rows if row["images"] <= usual and row["recall"] < average]
        return sorted(rows, key=lambda row: row["recall"])[:CLASSES]
    gains = dict(zip(known.classes, _steadied(known.curve), strict=False))
    rows = [
        {**row, "gain": gain} for row in rows if (gain := gains.get(row["class"])) is not None and gain >= CLASS_GAIN
    ]
    return sorted(rows, key=lambda row: (-round(row["gain"], 6), row["recall"]))[:CLASSES]


def _steadied(curve: LearningCurve) -> list[float | None]:
    """Return each class's rise of recall, drawn towards the mean of all as far as their differences may be chance.

    The largest of many noisy rises is mostly noise. With t² the variance of the true rises (that of those measured,
    less that of their errors), a rise r of error s becomes mean + (r - mean) t² / (t² + s²) (Efron & Morris, 1975);
    None where it is no larger than its error.
    """
    known = [(each.rise, each.error) for each in curve.classes if each.rise is not None and each.error is not None]
    if not known:
        return []
    rise_K, error_K = np.array(known).T
    mean = float(np.average(rise_K, weights=error_K**-2.0))
    spread = max(float(np.mean((rise_K - mean) ** 2 - error_K**2)), 0.0) if len(known) > 2 else math.inf

    def steady(rise: float | None, error: float | None) -> float | None:
        if rise is None or error is None or rise <= error:
            return None
        return rise if spread == math.inf else mean + (rise - mean) * spread / (spread + error**2)

    return [steady(each.rise, each.error) for each in curve.classes]


def _recall(known: Evidence, place: int) -> float | None:
    if known.recalls:
        return known.recalls[place]
    rows = known.figures.get("per_class") or []
    return rows[place]["recall"] if rows and rows[place]["images"] else None


def _seen(known: Evidence, place: int) -> int:
    """Return how many images of a class its recall is of."""
    if known.recalls:
        return int(known.held[place]) if known.held else 0
    return int(known.figures["per_class"][place]["images"])


def _mean_recall(known: Evidence) -> float:
    found = [recall for place in range(len(known.classes)) if (recall := _recall(known, place)) is not None]
    return float(np.mean(found)) if found else 0.0


def _training(known: Evidence) -> Iterator[Step]:
    newest = {found.kind: found for found in known.findings if found.kind in WATCHED and found.severity != "note"}
    if known.error < HARDLY:  # whatever it was, it did no harm
        return
    for found in sorted(newest.values(), key=lambda found: WATCHED.index(found.kind))[:TROUBLES]:
        yield Step("training", found.detail, math.inf)


def _photos(known: Evidence) -> Iterator[Step]:
    curve = known.curve
    if curve is None:
        yield Step("photos", "Whether more photos would help was not measured: the images or the time were too few.", 0)
        return
    shown = known.held if sum(known.held) else known.counts
    if curve.points[-1].interval[0] <= max(shown) / sum(shown):
        always = f"always saying {listed([known.classes[int(np.argmax(shown))]])}"
        told = f"Whether more photos would help cannot be told: {curve.name} is hardly more often right than {always}."
        yield Step("photos", told, 0.0)
        return
    doubled = curve.forecasts[0]
    other = curve.name != known.chosen
    gain = f"{_points(doubled.gain)} (95 % interval {_interval(doubled)})"
    low, high = doubled.gain_interval
    if doubled.clear:
        told = f"More photos would help: twice the {curve.images:,} training images would bring {curve.name} {gain}."
        told += f" {known.chosen} was not measured so: take it as a hint." if other else ""
    elif high < 2 * HARDLY:
        told = f"More photos of the same kind would buy little: {curve.name} would gain {_points(high)} at the most "
        told += f"from twice the {curve.images:,} training images."
        told += f" {known.chosen}, which was not measured so, may still learn from them." if other else ""
    else:
        told = f"It cannot be told whether more photos would help: twice the {curve.images:,} training images would "
        told += f"bring {curve.name} between {100 * low:.1f} and {_points(high)}."
    yield Step("photos", told, doubled.gain if doubled.clear else 0.0)


def _of_classes(known: Evidence, weak: Sequence[Mapping[str, Any]]) -> Iterator[Step]:
    fewest, most = min(known.counts, default=0), max(known.counts, default=0)
    unbalanced = (
        f"The classes are of very different sizes ({fewest:,} to {most:,} training images), so choices were made by "
        "macro F1, in which every class counts the same."
    )
    if weak:
        first = weak[0]
        name, seen = listed([first["class"]]), first["seen"]
        whose = plural(seen, f"{first['part']} image".strip())
        few = ", too few to be sure of it" if seen < FEWEST_SEEN else ""
        right = round(first["recall"] * seen)
        found = f"{right:,} of {whose} of {name} {'was' if 1 in (right, seen) else 'were'} found{few}"
        told = f"If you can add photos, begin with {listed([row['class'] for row in weak], CLASSES)}: "
        if known.curve:
            told += f"{found}, and the last doubling of the photos brought {known.curve.name} "
            told += f"about {_points(first['gain'])} more of them."
        else:
            told += f"{found}, with {plural(first['images'], 'training image')}. "
            told += "How far more would help was not measured."
        yield Step("classes", f"{told} {unbalanced}" if known.unbalanced else told, _worth_of_classes(known, weak))
    elif known.unbalanced:
        smallest = known.classes[list(known.counts).index(fewest)]
        told = f"Photos of {listed([smallest])} would tell most: there are {fewest:,} to learn from. {unbalanced}"
        yield Step("classes", told, min(SMALLEST, known.error))


def _worth_of_classes(known: Evidence, weak: Sequence[Mapping[str, Any]]) -> float:
    """Return about how much accuracy, or macro F1, the photos of weak classes would bring that enough was seen of."""
    total = max(sum(known.counts), 1)
    shares = [1 / len(known.classes) if known.unbalanced else row["images"] / total for row in weak]
    gains: list[float] = [(row["gain"] or 0.0) * (row["seen"] >= FEWEST_SEEN) for row in weak]
    worth = sum(gain * share for gain, share in zip(gains, shares, strict=True))
    photos = known.curve.forecasts[0] if known.curve else None
    # Said after the photos, of which they are a part, unless the photos of all classes are in doubt and these are not.
    if photos and photos.clear:
        return min(worth, photos.gain)
    return worth if worth >= HARDLY else 0.0


def _labels(known: Evidence) -> Iterator[Step]:
    listed_mistakes = known.figures.get("mistakes") or []
    sure = sum(mistake["probability"] >= CONFIDENT for mistake in listed_mistakes)
    if not sure or known.boast > BOASTING:  # its certainty tells nothing about labels
        return
    # Only the surest mistakes are kept: where all of them are sure, there may be more.
    least = "At least " if sure == len(listed_mistakes) < known.mistakes else ""
    subject = f"{least}{sure:,} of the {plural(known.mistakes, 'mistake')}"
    was, its = ("was", "its label") if sure == 1 else ("were", "their labels")
    yield Step(
        "labels",
        f"{subject} {was} made with more than {percent(CONFIDENT, 0)} certainty: look at {its} first. "
        "Where a label is wrong, look for the same in the training images.",
        sure / max(known.looked_at, 1) / 2,
    )


def _confusion(known: Evidence, pairs: Sequence[Mapping[str, Any]]) -> Iterator[Step]:
    if not pairs or pairs[0]["count"] < 2:
        return
    pair = pairs[0]
    places = [known.classes.index(pair[side]) for side in ("true", "predicted")]
    back = int(known.figures["confusion"][places[1]][places[0]])
    both = pair["count"] + back
    share = both / max(known.mistakes, 1)
    true, predicted = listed([pair["true"]]), listed([pair["predicted"]])
    told = f"{pair['count']:,} of {pair['images']:,} {true} were taken for {predicted}"
    told += f", and {back:,} the other way round" if back else ""
    told += f": {percent(share, 0)} of all mistakes"
    ask = "If you can tell them apart in the pictures, photos that show the difference help; "
    ask += "if not, think of joining the classes."
    yield Step("confusion", f"{told}. {ask}", both / max(known.looked_at, 1) / 2)


def _budget(known: Evidence) -> Iterator[Step]:
    network = known.network
    if known.figures.get("confusion") and known.error < HARDLY:
        wrong = f"{known.mistakes} of {plural(known.looked_at, 'image')} {'was' if known.mistakes == 1 else 'were'}"
        told = f"Little is left for more time to mend: {wrong} named wrongly."
        yield Step("budget", told, 0.0)
        return
    longer = f" ({_whole(2 * max(known.budget, known.seconds))})" if known.budget else ""
    if network is None:
        if known.budget:
            told = f"No network was trained to its end: a longer budget{longer} would show whether one does better."
            yield Step("budget", told, min(NO_NETWORK, known.error))
        return
    final = network.get("validation_accuracy")
    grown = _doublings(known.trials, final)
    if grown:
        next_gain, last = grown
        before = "the last doubling of the training brought"
        bounds = network.get("interval")
        chance = ", which may be chance" if bounds and last < (bounds[1] - bounds[0]) / 2 else ""
        if next_gain < HARDLY:
            told = f"More time buys little: {before} {network['name']} {_points(max(last, 0.0))}."
        else:
            told = f"Twice the time{longer} would bring {network['name']} at most about {_points(next_gain)}: "
            told += f"{before} {_points(last)}{chance}."
        yield Step("budget", told, next_gain if next_gain >= HARDLY else 0.0)
        return
    yield from _by_length(known, network, longer)


def _doublings(trials: Sequence[Mapping[str, float]], final: float | None) -> tuple[float, float] | None:
    """Return what the next doubling of the training brings at most, and what the last one brought; None if unknown.

    Gains are taken by doubling, and shrink from each to the next as they did before.
    """
    reached = {trial["share"]: trial["accuracy"] for trial in trials if 0 < trial["share"] < 1}
    if not reached or final is None:
        return None
    shares = [*sorted(reached), 1.0]
    accuracies = [*(reached[share] for share in shares[:-1]), final]
    gains = [
        (accuracies[place + 1] - accuracies[place]) / math.log2(shares[place + 1] / shares[place])
        for place in range(len(shares) - 1)
    ]
    shrinking = min(1.0, gains[-1] / gains[-2]) if len(gains) > 1 and gains[-2] > 0 else 1.0
    return max(gains[-1], 0.0) * max(shrinking, 0.0), gains[-1]


def _by_length(known: Evidence, network: Mapping[str, Any], longer: str) -> Iterator[Step]:
    """Say what the length of a training and the size of its images let one expect, where nothing was measured."""
    epochs, size = network.get("epochs"), network.get("size")
    if epochs is None:
        return
    passes = f"each image {epochs:.0f} times" if epochs >= 1.5 else "each image about once"
    passes = passes if epochs >= WHOLE else f"{percent(epochs, 0)} of the images once"
    full = full_side(known.native) if known.native else None
    small = full is not None and size is not None and size < full
    if epochs < FEW_EPOCHS or small:
        seen = f"{network['name']} saw {passes}" + (f", and at {size} of {full} pixels" if small else "")
        short = "The training was cut short" if known.budget else "The training was short"
        told = f"{short}: {seen}. More time{longer} would probably help; how far was not measured."
        yield Step("budget", told, min(CUT_SHORT, known.error))
    elif epochs > MANY_EPOCHS:
        told = f"More time would buy little: {network['name']} already saw {passes}, at full size."
        yield Step("budget", told, 0.0)
    else:
        told = f"More time may help a little: {network['name']} saw {passes}, at full size; not measured."
        yield Step("budget", told, 0.0)


def _whole(seconds: float) -> str:
    r"""Return a time rounded up to whole seconds.

    >>> _whole(9.55), _whole(120)
    ('10\xa0s', '2\xa0min')
    """
    return duration(math.ceil(seconds)).replace(".0", "")


def _points(gain: float) -> str:
    """Return a difference of accuracies in points.

    >>> _points(0.0123)
    '1.2 points'
    """
    return f"{100 * gain:.1f} points"


def _interval(forecast: Forecast) -> str:
    low, high = forecast.gain_interval
    return f"{100 * low:.1f} to {100 * high:.1f}"
