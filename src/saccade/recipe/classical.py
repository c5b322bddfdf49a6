"""Classical classifiers alone, their settings chosen by cross-validation; the test part stays sealed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import data, metrics, report, study
from saccade.classifiers import Descent, FeatureClassifier, KNearestNeighbors, LinearClassifier, Member, Model, Optimum
from saccade.classifiers.neighbors import described
from saccade.data import Part
from saccade.device import computing_on, resolve_device
from saccade.errors import SettingError
from saccade.events import Finding, emit, listening, stage
from saccade.features import DeepFeatures, ImageFeatures, Stacked, handmade
from saccade.features.cache import default_folder
from saccade.files import slug
from saccade.interrupts import SIGNALS
from saccade.nn import pretrained
from saccade.nn.published import Pretrained
from saccade.recipe import plan as planning
from saccade.recipe import summary as summaries
from saccade.recipe.conclusion import Result
from saccade.recipe.idle import refuse_idle
from saccade.recipe.licences import marked, tell_licence
from saccade.recipe.material import Material, discarded_on_refusal, gather
from saccade.recipe.pictures import draw_inputs
from saccade.recipe.summary import Diary
from saccade.run import Run
from saccade.settings import BaselineSettings
from saccade.study import folds as validating
from saccade.study import paths
from saccade.study.folds import Setting
from saccade.train.budget import Clock
from saccade.words import told_values

SIDE = 32
"""Of the images that pixels and features are taken of, unless they are smaller or another is asked for."""
OPTIMUM = Optimum(tolerance=2e-4)


@dataclass(frozen=True)
class Contender:
    """One family of classifiers: its settings cross-validated, and the best of them fitted to all the images."""

    name: str
    settings: Sequence[Setting]
    model: Model
    seconds: float
    features: int
    """Numbers an image that it sees."""

    @property
    def chosen(self) -> Setting:
        """The setting of the highest mean accuracy."""
        return validating.best(self.settings)

    def plain(self) -> dict[str, Any]:
        """Return what the summary says of it."""
        return {
            "name": self.name,
            "label": self.model.name,
            "chosen": dict(self.chosen.values),
            "mean": self.chosen.mean,
            "sd": self.chosen.sd,
            "features": self.features,
            "seconds": round(self.seconds, 2),
            "settings": [
                {"values": dict(each.values), "mean": each.mean, "sd": each.sd, "folds": list(each.accuracies)}
                for each in self.settings
            ],
        }


@dataclass(frozen=True)
class Round:
    """What every contender is given: the images that may be looked at, their folds, and what is to be tried."""

    part: Part
    fold_N: NDArray[np.int64]
    side: int
    mirrored: bool
    settings: BaselineSettings

    def images(self) -> NDArray[np.uint8]:
        """Return the images, at the round's side."""
        return self.part.squares(self.side)

    def contender(
        self, name: str, settings: Sequence[Setting], classifier: Any, label: str, features: int
    ) -> Contender:
        """Return a contender, the time it took still to be told."""
        model = Model((Member(label, classifier, self.side),), self.part.classes, self.settings.fit_to_square)
        return Contender(name, settings, model, 0.0, features)


def baselines(
    source: str | Path, settings: BaselineSettings, *, out: Path | None = None, clock: Clock | None = None
) -> Result:
    """Cross-validate nearest neighbours and linear classifiers, on pixels and on features, and save the best of each.

    What is tried of them stands in the settings. Features are learnt once, from the images of all folds without
    their labels. The run's model is the best of all; `evaluate` measures each. Raises InputError, before anything
    is written, where source, settings or `out` cannot be used.
    """
    refuse_idle(settings)
    clock = clock or Clock(None)
    resolve_device(settings.device)
    weights = pretrained.find(settings.pretrained)
    if weights is None:
        refuse_idle(settings, pretrained="none")
    with (
        listening(diary := Diary()),
        computing_on(settings.device),
        gather(source, settings, out) as material,
        discarded_on_refusal(material, *SIGNALS),
    ):
        tell_licence(weights)
        part = material.parts.known
        groups_N = np.array([material.groups[key] for key in part.images.keys])
        fold_N = data.folds(part.images, groups_N, settings.folds, settings.seed)
        side = settings.size or min(planning.native_side(part), SIDE)
        ground = Round(part, fold_N, side, _mirrored(material, settings), settings)
        works: dict[str, Callable[[str], Contender]] = {
            "k-NN on pixels": lambda name: _neighbors(ground, name),
            "linear on pixels": lambda name: _linear(ground, name, None),
            "linear on HOG, colour and words": lambda name: _linear(ground, name, handmade(side, settings.words)),
        }
        if weights is not None:
            deep = DeepFeatures(weights.asked, settings.stage, settings.deep_size)
            works[f"linear on {planning.short(weights.model)}"] = lambda name: _linear(ground, name, [deep])
        contenders = [_timed(name, work) for name, work in works.items()]
        contenders = [replace(each, model=marked(each.model, weights)) for each in contenders]
        return _concluded(contenders, ground, material, clock, diary, weights)


def _mirrored(material: Material, settings: BaselineSettings) -> bool:
    """Return whether features are taken of mirror images too: as told, else as measured."""
    if settings.views is not None:
        return settings.views
    with stage("mirror images") as record:
        symmetry = study.mirror_symmetric(material.parts)
        record.outcome = symmetry.why
    return symmetry.symmetric


def _timed(name: str, work: Callable[[str], Contender]) -> Contender:
    with stage(name) as record:
        begun = perf_counter()
        contender = work(name)
        contender = replace(contender, seconds=perf_counter() - begun)
        chosen = contender.chosen
        record.outcome = f"{contender.model.name}: {chosen.mean:.1%} ± {chosen.sd:.1%}"
        record.validation_accuracy = chosen.mean
    return contender


def _neighbors(ground: Round, name: str) -> Contender:
    x_NHWC, y_N, fold_N = ground.images(), ground.part.labels_N, ground.fold_N
    fewest = len(y_N) - int(np.bincount(fold_N).max())
    ks = [k for k in ground.settings.neighbors if k <= fewest]
    if not ks:
        raise SettingError(
            f"Of {min(ground.settings.neighbors)} or more neighbours there are too few: a fold leaves {fewest} images; "
            "give a smaller number to --neighbors."
        )
    settings = [
        replace(each, values={"metric": metric, **each.values})
        for metric in ground.settings.metric
        for each in validating.neighbors(x_NHWC, y_N, fold_N, metric, ks)
    ]
    chosen = validating.best(settings).values
    classifier = KNearestNeighbors(k=chosen["k"], metric=chosen["metric"]).fit(x_NHWC, y_N)
    return ground.contender(name, settings, classifier, described(classifier), int(np.prod(x_NHWC.shape[1:])))


def _linear(ground: Round, name: str, kinds: list[ImageFeatures] | None) -> Contender:
    x_NHWC, y_N = ground.images(), ground.part.labels_N
    stacked = None if kinds is None else Stacked(kinds, ground.mirrored, cache=default_folder())
    x_ND = x_NHWC.reshape(len(x_NHWC), -1) if stacked is None else stacked.fit_transform(x_NHWC)
    tried = _classifiers(ground.settings)
    found = paths.linear(x_ND, y_N, ground.fold_N, tried, ground.settings.strength, task=name)
    pairs = [(classifier, setting) for classifier, each in zip(tried, found, strict=True) for setting in each]
    last, chosen = max(pairs, key=lambda pair: pair[1].mean)
    given = x_NHWC if stacked is None else x_ND
    last.set_params(strength=chosen.values["strength"]).fit_path(given, y_N, [last.strength])
    last.temperature_ = chosen.temperature
    if last.stopped_ != "tolerance" and last.solver == OPTIMUM:
        detail = f"{name}: {last.n_iter_} steps did not reach the optimum ({last.stopped_})"
        emit(Finding(kind="optimum", detail=detail))
    classifier: LinearClassifier | FeatureClassifier = last
    if stacked is not None:
        stacked.set_params(cache=None)
        classifier = FeatureClassifier.of(stacked, last)
    label = f"{name} ({told_values(chosen.values)})"
    return ground.contender(name, [setting for _, setting in pairs], classifier, label, x_ND.shape[1])


def _classifiers(settings: BaselineSettings) -> list[LinearClassifier]:
    """Return the linear classifiers to try: each loss with each penalty, at its optimum or by descent at each rate."""
    descents = [
        Descent(batch_size=settings.batch_size, learning_rate=rate, epochs=settings.epochs, seed=settings.seed)
        for rate in settings.learning_rate
    ]
    solvers: dict[str, Sequence[Optimum | Descent]] = {"optimum": [OPTIMUM], "descent": descents}
    return [
        LinearClassifier(loss, settings.margin, penalty, beta=settings.beta, solver=solver)
        for loss, penalty, name in product(settings.loss, settings.penalty, settings.solver)
        for solver in solvers[name]
    ]


def _concluded(
    contenders: Sequence[Contender],
    ground: Round,
    material: Material,
    clock: Clock,
    diary: Diary,
    weights: Pretrained | None,
) -> Result:
    """Save every contender, the best as the run's model; write findings, summary and report."""
    run = material.run
    best = max(contenders, key=lambda each: each.chosen.mean)
    best.model.save(run.model)
    for each in contenders:
        if each is not best:
            folder = run.models / slug(each.name)
            folder.mkdir(parents=True)
            each.model.save(folder)
    summary = _summary(contenders, best, ground, material, diary)
    if weights is not None:
        summary["weights"] = weights.plain()
    run.write("findings", summaries.findings_json(diary))
    run.write("summary", {**summary, "seconds": round(clock.elapsed(), 2)})
    with stage("report"):
        report.write(run)
    summary["seconds"] = round(clock.elapsed(), 2)
    run.write("summary", summary)
    return Result(Run(run.path), best.model, summary)


def _summary(
    contenders: Sequence[Contender], best: Contender, ground: Round, material: Material, diary: Diary
) -> dict[str, Any]:
    labels_N, predicted_N = ground.part.labels_N, best.chosen.predicted_N
    counts_K = ground.part.images.class_counts()
    confusion = metrics.confusion_KK(predicted_N, labels_N, len(ground.part.classes))
    return {
        **summaries.of_software(),
        "command": "baselines",
        **summaries.of_data(material, diary, None),
        "stages": diary.stages,
        "folds": int(ground.fold_N.max()) + 1,
        "classifiers": [each.plain() for each in contenders],
        "chosen": best.model.name,
        "validation": {
            **metrics.judged(predicted_N == labels_N, ground.part.groups_N),
            "macro_f1": metrics.macro_f1(confusion),
            "majority": float(counts_K.max() / counts_K.sum()),
        },
        "inputs": draw_inputs(material.run, ground.part, ground.side, 0),
        "warnings": diary.warnings(),
        "findings": summaries.told_findings(diary),
        "run": str(material.run.path),
    }
