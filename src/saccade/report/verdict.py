"""The verdict in plain words: what won, how good it is, how sure that is, and what it stands beside."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saccade.report.kinds import title
from saccade.words import counted, interval, listed, percent, plural

Summary = Mapping[str, Any]
Findings = Sequence[Mapping[str, Any]]

CLEAR = 0.05
"""The probability of a lead by chance, below which it counts (McNemar's exact test, or that over groups)."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the top of the report says.

    `part` is "test", or "validation" where the test part is still sealed; `majority` is the accuracy
    of always giving the commonest training class on that part; None where it is not known. `groups` are those of the
    part's images that belong together, None where each stands alone.
    """

    part: str
    classifier: str
    described: str
    accuracy: float
    bounds: tuple[float, float] | None
    right: int
    images: int
    groups: int | None
    majority: float | None
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def convincing(self) -> bool:
        """Whether the classifier is clearly better than always giving the commonest class."""
        return self.bounds is None or self.majority is None or self.bounds[0] > self.majority


def verdict(summary: Summary, findings: Findings = ()) -> Verdict:
    """Return the verdict of a run from its summary.json and findings.json."""
    part = "test" if summary.get("test") else "validation"
    figures = summary[part]
    images = int(figures.get("images") or summary["split"][part])
    bounds = figures.get("interval")
    return Verdict(
        part=part,
        classifier=summary["chosen"],
        described=described(summary["chosen"], _simple(summary), _taught(summary)),
        accuracy=figures["accuracy"],
        bounds=(bounds[0], bounds[1]) if bounds else None,
        right=round(figures["accuracy"] * images),
        images=images,
        groups=figures.get("groups"),
        majority=majority(summary, part),
        sentences=tuple(_sentences(summary, part)),
        warnings=tuple(_warnings(summary, findings, part)),
    )


def _simple(summary: Summary) -> list[str]:
    """Return the names of the classical classifiers, of `fit` or of `baselines`."""
    return [
        *(row["name"] for row in summary.get("baselines") or []),
        *(row["label"] for row in summary.get("classifiers") or []),
    ]


def _taught(summary: Summary) -> Mapping[str, str]:
    """Return how the networks that began with weights were trained before: those a run, or whoever published them."""
    weights, network = summary.get("weights") or {}, summary.get("network") or {}
    how = "in an earlier run" if weights.get("run") else "on other photos"
    tuned = bool((network.get("settings") or {}).get("pretrained"))
    return {"": how, **({network["name"]: how} if tuned else {})}


def described(name: str, baselines: Sequence[str] = (), taught: Mapping[str, str] | None = None) -> str:
    """Return what a classifier is, for someone who does not know its name.

    `taught` tells by name how networks were trained before, and under "" how those are that are not named.

    >>> described("linear on resnet18")
    'a simple classifier on what a network trained on other photos sees in yours (linear on resnet18)'
    """
    taught = taught or {"": "on other photos"}
    if " + " in name:
        return "the average of " + ", and of ".join(described(each, baselines, taught) for each in name.split(" + "))
    if name in baselines:
        return f"a simple classifier, not a network ({name})"
    if name.startswith("linear on "):
        return f"a simple classifier on what a network trained {taught['']} sees in yours ({name})"
    (plain,) = plain_names(name)
    if plain in taught or name.startswith(("torchvision/", "timm/")):
        return f"a network trained {taught.get(plain, taught[''])}, then on yours ({name})"
    return f"a network trained on your images alone ({name})"


def plain_names(chosen: str) -> list[str]:
    """Return the names of the classifiers in one that may be their average, without what tells two of a name apart.

    >>> plain_names("linear on resnet18 + convnet (cycle 2)")
    ['linear on resnet18', 'convnet']
    """
    return [name.partition(" (")[0] for name in chosen.split(" + ")]


def majority(summary: Summary, part: str) -> float | None:
    """Return how often the commonest training class is right on `part`: as its figures say, or by counts; else None."""
    told: float | None = (summary.get(part) or {}).get("majority")
    counts = summary.get("class_counts") or {}
    train, other = counts.get("train"), counts.get(part)
    if told is not None or not train or not other or not sum(other):
        return told
    return float(other[train.index(max(train))] / sum(other))


def best_baseline(summary: Summary) -> Mapping[str, Any] | None:
    """Return the baseline with the highest validation accuracy, or None where there are none."""
    rows = summary.get("baselines") or []
    return max(rows, key=lambda row: row["validation_accuracy"]) if rows else None


def is_baseline(summary: Summary) -> bool:
    """Return whether a classical classifier was chosen, not a network."""
    return any(row["name"] == summary["chosen"] for row in summary.get("baselines") or [])


def _sentences(summary: Summary, part: str) -> Iterator[str]:
    figures = summary[part]
    bounds = figures.get("interval")
    if bounds:
        low, high = 100 * bounds[0], 100 * bounds[1]
        new = "Of 100 new images like these" + (", of groups it has not seen" if figures.get("groups") else "")
        yield (
            f"{new}, expect {low:.0f} to {high:.0f} to be named correctly."
            if round(low) != round(high)
            else f"{new}, expect about {low:.0f} to be named correctly."
        )
        yield from _grouped(figures)
    yield from _beside_majority(summary, part)
    yield from _beside_baselines(summary)
    if part == "test":
        yield from _without_leaks(figures)
        yield from _beside_validation(summary)
        yield _looks(figures.get("looks", 1))
    else:
        yield (
            "These are validation images, which also served to make choices, so the number tends to be a little too "
            "good. The test part is still sealed; `saccade evaluate` looks at it, and counts the look."
        )


def _grouped(figures: Mapping[str, Any]) -> Iterator[str]:
    effect = figures.get("design_effect") or 1.0
    if round(effect, 1) > 1:
        images = figures["images"]
        yield (
            f"Images of one group tend to be right or wrong together: these {counted(images, figures['groups'])} tell "
            f"about as much as {images / effect:,.0f} would that have nothing to do with each other."
        )


def _without_leaks(figures: Mapping[str, Any]) -> Iterator[str]:
    clean = figures.get("without_leaks")
    if clean:
        alike = int(figures["images"]) - int(clean["images"])
        yield (
            f"{plural(alike, 'test image')} {'is' if alike == 1 else 'are'} much like an image it was trained or "
            f"chosen on; without {'it' if alike == 1 else 'them'} it names {percent(clean['accuracy'])} correctly "
            f"({interval(clean['interval'])})."
        )


def _beside_majority(summary: Summary, part: str) -> Iterator[str]:
    share, bounds = majority(summary, part), summary[part].get("interval")
    if share is None or not bounds:
        return
    train = (summary.get("class_counts") or {}).get("train") or []
    if train.count(max(train, default=0)) == 1:
        always = f"Always answering {listed([summary['classes'][train.index(max(train))]])}, the commonest class,"
    else:
        always = "Always giving one and the same answer"
    worth = "" if bounds[0] > share else ": this classifier is not clearly better than that"
    yield f"{always} would be right for {percent(share)}{worth}."


def _beside_baselines(summary: Summary) -> Iterator[str]:
    best, network = best_baseline(summary), summary.get("network")
    if best is None:
        return
    reached = f"{best['name']}, {percent(best['validation_accuracy'])} on validation"
    if is_baseline(summary):
        beaten = f" It did better on validation than the network, {network['name']}." if network else ""
        yield f"The winner is a classical classifier, not a network: {reached}.{beaten}"
        return
    against = f"the best simple baseline ({reached}, where this one has {percent(summary['validation']['accuracy'])})"
    paired = summary.get("beside_simple")
    if paired is None:
        yield f"It stands beside {against}."
    elif paired["p"] < CLEAR and paired["difference"] > 0:
        yield f"It is clearly ahead of {against}."
    else:
        alone = (
            f"it alone named {paired['first_alone']:,} of the images correctly, the baseline {paired['second_alone']:,}"
        )
        yield f"It is not clearly ahead of {against}: {alone}, which may be chance."


def _beside_validation(summary: Summary) -> Iterator[str]:
    bounds, accuracy = summary["test"].get("interval"), (summary.get("validation") or {}).get("accuracy")
    if not bounds or accuracy is None:
        return
    if accuracy > bounds[1]:
        yield f"Validation said {percent(accuracy)}, more than the test can confirm: trust the test."
    elif accuracy < bounds[0]:
        yield f"Validation said {percent(accuracy)}, less than the test: the test images may be easier."
    else:
        yield f"Validation said {percent(accuracy)}, in line with the test."


def _looks(looks: int) -> str:
    if looks <= 1:
        return "This was the first look at these test images, so the number is an honest estimate."
    return (
        f"These test images have been looked at {looks:,} times, in all runs on this machine. Every choice made "
        "after a look makes the number a little too good; fresh images would tell."
    )


def _warnings(summary: Summary, findings: Findings, part: str) -> Iterator[str]:
    figures = summary[part]
    bounds, share = figures.get("interval"), majority(summary, part)
    if bounds and share is not None and bounds[0] <= share:
        yield f"It is not clearly better than always giving the same answer, which would be right for {percent(share)}."
    never = [row["class"] for row in figures.get("per_class") or [] if row["images"] and not row["recall"]]
    if never:
        yield f"Never recognised: {listed(never)}."
    wide = bounds is not None and bounds[1] - bounds[0] > 0.1
    told = [finding["detail"] for finding in findings if finding.get("paths") or finding["kind"] == "check"]
    if wide:  # which is said below
        small = [row["detail"] for row in summary.get("findings") or findings if row["kind"] == "small-part"]
        told += [detail for detail in small if f"the {part} part" in detail]
    yield from (warning for warning in summary.get("warnings") or [] if not warning.endswith(tuple(told)))
    grave = {title(row["kind"]).lower(): None for row in findings if row.get("paths") and row.get("severity") != "note"}
    if grave:
        yield f"The data check found {', '.join(grave)}: see “What the data check found”."
    failed = [check["name"] for check in summary.get("checks") or [] if not check["passed"]]
    if failed:
        yield f"{plural(len(failed), 'check')} before training failed: {listed(failed)}."
    if wide:
        images = counted(figures.get("images") or summary["split"][part], figures.get("groups"), f"{part} image")
        yield f"With only {images}, the 95 % interval is wide ({interval(bounds)})."
    absent = [row["class"] for row in figures.get("per_class") or [] if not row["images"]]
    if absent:
        yield f"Without {part} images, so not measured: {listed(absent)}."
