"""The audit: everything that can be found out about labelled images before anything is trained on them."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saccade import audit as auditing
from saccade import data
from saccade.audit import labels, remedy
from saccade.audit.labels import Suspect
from saccade.data import Cache, ImageSet, Part, Parts
from saccade.data.splits import united
from saccade.device import derived_seed, resolve_device
from saccade.errors import ModelError, SourceError
from saccade.events import Finding, emit, listening, stage
from saccade.features import HOG
from saccade.files import content_hash, expanded, replaceable, slug, writable, write_csv
from saccade.nn import pretrained, zoo
from saccade.nn.published import Pretrained
from saccade.recipe.material import search_work
from saccade.recipe.pictures import thumbnails
from saccade.recipe.plan import native_side
from saccade.recipe.provenance import Seen
from saccade.recipe.summary import SCHEMA, Diary
from saccade.report.audit import BEGINNING, write_page
from saccade.report.kinds import KINDS
from saccade.run import RUNS
from saccade.settings import AuditSettings, TrainSettings
from saccade.study import transfer
from saccade.train.forward import Forward

PICTURES = 12
"""Pictures shown of one finding, at the most."""
SIDE = 32
"""Pixels that simple features are taken at; pretrained networks see up to TRUNK_SIDES of them."""
TRUNK_SIDES = (64, 96, 128)
FEATURE_SHARE, LABEL_SHARE = 0.3, 0.5
"""Of the budget, for the features that labels are told by, and for them and what is fitted to them."""
TOGETHER = 256
"""Images whose features are taken at once."""
FEWEST = 100
"""Images below which a model knows too little to doubt a label."""


@dataclass(frozen=True)
class _Groups:
    """Which images are the same, and which are alike."""

    same_N: NDArray[np.int64]
    alike_N: NDArray[np.int64]


def audit(
    source: str | Path, settings: AuditSettings, *, fix: Path | None = None, page: Path | None = None
) -> dict[str, Any]:
    """Return what is doubtful about a source, written to a page with pictures too; `fix` names a manifest to write.

    The source's files are only read; its test part, given or as `fit` would split it with the same seed, is seen
    by the checks of single images and for duplicates alone. Raises InputError where the source, or a
    place to write to, cannot be used.
    """
    begun = perf_counter()
    page = page or RUNS / f"audit-{slug(Path(source).absolute().name)}.html"
    _refuse_places(source, fix, page)
    weights = pretrained.find(settings.pretrained)
    cache = Cache.of(source) if settings.cache else None
    with listening(diary := Diary()):
        with stage("open") as record:
            opened = data.open(source, settings)
            if fix is not None:
                remedy.refuse_unfixable(opened)
            stamps = opened.pixels.stamps(opened.keys) if cache else {}
            known = cache.recall(opened, stamps) if cache else 0
            record.outcome = f"{len(opened):,} images, {known:,} of them known"
        with stage("integrity") as record:
            images = data.integrity(opened)
            record.outcome = f"{len(opened) - len(images):,} unreadable"
            if cache and known < len(opened):
                cache.keep(opened, opened.pixels.check(opened.keys), stamps)
            auditing.quality(images)
            auditing.balance(images)
        groups = _duplicates(images)
        parts = _split(images, groups, settings)
        suspects = _labels(images, groups, parts, weights, settings, cache) if parts else []
    counts = dict(zip(images.classes, images.class_counts().tolist(), strict=True))
    found = sorted(diary.findings, key=lambda finding: [*KINDS, finding.kind].index(finding.kind))
    value: dict[str, Any] = {
        "schema": SCHEMA, "source": images.source, "images": len(opened), "classes": counts,
        "findings": [asdict(finding) | {"paths": list(finding.paths)} for finding in found],
        "suspects": [asdict(suspect) for suspect in suspects],
    }  # fmt: skip
    if fix is not None:
        bad = [key for finding in found if finding.kind == "blank" for key in finding.paths]
        kept = list(remedy.rows(images, groups.same_N, groups.alike_N, bad, fix.absolute().parent))
        write_csv(fix, remedy.COLUMNS, kept)
        labels_kept = {label for _, label, _, _ in kept}
        emptied = [name for name in opened.classes if name not in labels_kept]
        value |= {"fix": str(fix), "left_out": len(opened) - len(kept), "emptied": emptied}
    shown = dict.fromkeys(key for finding in found for key in finding.paths[:PICTURES] if key in images.pixels.keys)
    value["seconds"] = round(perf_counter() - begun, 2)
    with stage("page"):
        write_page(page, value, thumbnails(images, list(shown), cache), PICTURES)
    return {**value, "page": str(page), "seconds": round(perf_counter() - begun, 2)}


def _refuse_places(source: str | Path, fix: Path | None, page: Path) -> None:
    """Raise SourceError where what is to be written would lie inside the source, or already exists.

    A page may take the place of an earlier one.
    """
    folder = expanded(source).resolve()
    if page.resolve() in (folder, fix and fix.resolve()):
        raise SourceError(f"{page} is the source or what --fix writes; give --page another name.")
    for option, place in (("--fix", fix), ("--page", page)):
        if place is not None and str(source) and folder.is_dir() and place.resolve().is_relative_to(folder):
            raise SourceError(f"{place} would lie inside the source; give {option} a file elsewhere.")
        if place is not None and place.is_dir():
            raise SourceError(f"{place} is a folder; give {option} the name of a file.")
    if fix is not None and fix.exists():
        raise SourceError(f"{fix} already exists; give --fix another name, or remove it.")
    if not replaceable(page, BEGINNING):
        raise SourceError(f"{page} already exists and is no page of an audit; give --page another name, or remove it.")
    if fix is not None and not fix.absolute().parent.is_dir():
        raise SourceError(f"There is no folder {fix.absolute().parent}; make it, or give --fix another name.")
    with suppress(OSError):  # which is said below
        page.absolute().parent.mkdir(parents=True, exist_ok=True)
    for option, place in (("--fix", fix), ("--page", page)):
        if place is not None and not writable(place.absolute().parent):
            raise SourceError(f"{place} cannot be written; give {option} the name of a file in a folder to write to.")


def _duplicates(images: ImageSet) -> _Groups:
    with stage("duplicates") as record:
        same_N = auditing.duplicates(images)
        alike = auditing.near_duplicates(images, same_N, work=search_work(len(images), None))
        copies, similar = len(images) - len(np.unique(same_N)), len(images) - len(np.unique(alike.groups_N))
        record.outcome = f"{copies:,} copies, {similar - copies:,} near-duplicates"
        return _Groups(same_N, alike.groups_N)


def _split(images: ImageSet, groups: _Groups, settings: AuditSettings) -> Parts | None:
    """Split as `fit` does, and compare training and validation; None where there is nothing to split."""
    seen = Seen.by(settings)
    with stage("split") as record:
        try:
            parts = data.split(images, groups.same_N, settings, groups.alike_N, seen.latest(images))
        except SourceError as error:
            emit(Finding(kind="seen" if seen.run else "unsplit", detail=str(error), severity="warning"))
            return None
        if "validation" in images.given_parts:
            auditing.shift(parts.train.images, parts.validation.images)
        sizes = {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}
        record.outcome = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
    return parts


def _labels(
    images: ImageSet,
    groups: _Groups,
    parts: Parts,
    weights: Pretrained | None,
    settings: AuditSettings,
    cache: Cache | None,
) -> list[Suspect]:
    """Return, and tell, the labels of training and validation images that out-of-fold predictions speak against."""
    place = {key: i for i, key in enumerate(images.keys)}
    used = np.sort([place[key] for part in (parts.train, parts.validation) for key in part.images.keys])
    pool = images.select(used)
    if len(pool) < FEWEST:
        return []
    by = f"gradients, colours{f' and {weights.model}' if weights else ''}"
    with stage("labels") as record:
        name = _name(pool, weights, settings)
        kept = cache.get(name) if cache else None
        if kept is None:
            together_N = united(groups.alike_N[used], pool.groups)
            seen, found = _suspects(Part("audited", pool), together_N, weights, settings)
            if cache:
                cache.put({name: json.dumps({"seen": seen, "found": [asdict(each) for each in found]}).encode()})
        else:
            known = json.loads(kept)
            seen, found = known["seen"], [Suspect(**each) for each in known["found"]]
        if seen < len(pool):
            detail = f"labels of {seen:,} of {len(pool):,} images were looked at, as many as there was time for"
            emit(Finding(kind="label", detail=detail))
        labels.tell(found, f"linear classifiers on {by}")
        record.outcome = f"{len(found):,} doubtful"
    return found


def _name(pool: ImageSet, weights: Pretrained | None, settings: AuditSettings) -> str:
    """Return a name for suspects that says all they depend on."""
    rows = (f"{key}\0{digest}\0{pool.classes[k]}\0{group or ''}" for key, digest, k, group in
            zip(pool.keys, pool.hashes(), pool.labels_N.tolist(), pool.groups, strict=True))  # fmt: skip
    network = [weights.model, content_hash(weights.file.read_bytes())] if weights and weights.file else []
    given = [str(settings.budget), str(settings.seed), settings.fit_to_square]
    known = "\n".join([*network, *given, *rows]).encode("utf-8", "surrogateescape")
    return f"doubts {content_hash(known)}"


def _suspects(
    part: Part, groups_N: NDArray[np.int64], weights: Pretrained | None, settings: AuditSettings
) -> tuple[int, list[Suspect]]:
    """Compute features of as many images as there is time for, in a random order, and doubt labels by them.

    Returns of how many, and the doubts.
    """
    begun = perf_counter()
    order = np.random.default_rng(derived_seed(settings.seed, "labels")).permutation(len(part))
    kinds = label_features(part, order, weights, settings, begun + FEATURE_SHARE * settings.budget)
    seen = order[: len(kinds[0])]
    present, numbered_N = np.unique(part.labels_N[seen], return_inverse=True)
    if len(present) < 2:
        return len(seen), []
    scores, end = [], begun + LABEL_SHARE * settings.budget
    for left in range(len(kinds), 0, -1):
        until = perf_counter() + (end - perf_counter()) / left
        scores.append(labels.out_of_fold(kinds.pop(), numbered_N, groups_N[seen], until))
    noisy = labels.Noisy.of(np.mean(scores, axis=0), numbered_N)
    keys = [part.images.keys[i] for i in seen]
    return len(seen), labels.describe(noisy, numbered_N, keys, [part.classes[k] for k in present])


def label_features(
    part: Part, order: NDArray[np.int64], weights: Pretrained | None, settings: AuditSettings, end: float
) -> list[NDArray[np.float32]]:
    """Return each kind of features of an order's first images: FEWEST at least, and of all where there is time."""
    trunk = _trunk_features(part, weights, settings) if weights else None
    makers = [_simple_features, *([trunk] if trunk else [])]
    done, kinds = 0, list[NDArray[np.float32]]()
    while done < len(part) and (done < FEWEST or perf_counter() < end):
        some = part.select(order[done : done + TOGETHER])
        blocks = [features_of(some) for features_of in makers]
        kinds = kinds or [np.empty((len(part), block.shape[1]), np.float32) for block in blocks]
        for x_ND, block in zip(kinds, blocks, strict=True):
            x_ND[done : done + len(some)] = block
        done += len(some)
    return [x_ND[:done] for x_ND in kinds]


def _simple_features(part: Part) -> NDArray[np.float32]:
    """Return edges in cells of a quarter of the side, and the picture in 8 by 8 pixels."""
    x_NHWC = part.squares(SIDE)
    coarse = x_NHWC.reshape(len(x_NHWC), 8, SIDE // 8, 8, SIDE // 8, 3).mean((2, 4), dtype=np.float32)
    return np.concatenate([HOG(cell=SIDE // 4).fit_transform(x_NHWC), coarse.reshape(len(x_NHWC), -1) / 255], 1)


def _trunk_features(
    part: Part, weights: Pretrained, settings: AuditSettings
) -> Callable[[Part], NDArray[np.float32]] | None:
    """Return what gives a pretrained network's features of a part; None where its weights turn out not to fit."""
    side = next((side for side in reversed(TRUNK_SIDES) if side <= 2 * native_side(part)), TRUNK_SIDES[0])
    try:
        network = zoo.transferred(pretrained.load(weights), classes=2, side=side)
    except ModelError:
        if settings.pretrained != "auto":
            raise
        return None
    zoo.standardize_by(network, weights.mean, weights.sd)
    resolve_device(settings.device)
    seeing = TrainSettings(size=side, interpolation=weights.interpolation, device=settings.device)
    forward = Forward.of(network, seeing)

    def features(part: Part) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(transfer.features(forward, part, task="labels")[0])

    return features
