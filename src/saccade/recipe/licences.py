"""Whose weights a run began with, and what their licence allows: told, and kept with the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from saccade.classifiers import FeatureClassifier, Model, NetworkClassifier
from saccade.classifiers.saved import Classifier
from saccade.events import Finding, emit
from saccade.features import DeepFeatures
from saccade.nn.published import Pretrained, allows_commerce


def tell_licence(weights: Pretrained | None) -> None:
    """Emit a warning where the licence of weights forbids commercial use, for it binds what is trained from them."""
    if weights is not None:
        _tell(f" of {weights.model}", weights.licence, weights.source)


def told_of(model: Model) -> dict[str, Any]:
    """Return what the summary says of the weights that a model's members began with; warn as `tell_licence` does."""
    if not model.weights:
        return {}
    source, licence = model.weights["source"], model.weights["licence"] or "unknown"
    _tell("", licence, source)
    return {"weights": {"source": source, "licence": licence, "commercial_use": allows_commerce(licence)}}


def _tell(whose: str, licence: str, source: str) -> None:
    if allows_commerce(licence) is False:
        detail = (
            f"The licence of the weights{whose} ({licence}, from {source}) forbids commercial use, of what is trained "
            "from them too."
        )
        emit(Finding(kind="licence", severity="warning", detail=detail))


def marked(model: Model, weights: Pretrained | None) -> Model:
    """Return the model with the source and the licence of the weights that a member began with or takes features of."""
    if weights is None or not any(_begun(member.classifier) for member in model.members):
        return model
    return replace(model, weights={"source": weights.source or weights.model, "licence": weights.licence})


def together(weights: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sources and the licences of the weights that several models began with, those of none left out.

    >>> together([{}, {"source": "a", "licence": None}, {"source": "b", "licence": "CC0"}])
    {'source': 'a and b', 'licence': 'unknown and CC0'}
    """
    began = [dict(each) for each in weights if each]
    if not began or all(each == began[0] for each in began):
        return began[0] if began else {}
    told = {name: dict.fromkeys(each[name] or "unknown" for each in began) for name in ("source", "licence")}
    return {name: " and ".join(texts) for name, texts in told.items()}


def _begun(classifier: Classifier) -> bool:
    if isinstance(classifier, FeatureClassifier):
        return any(isinstance(part, DeepFeatures) for part in classifier.features_.parts)
    return isinstance(classifier, NetworkClassifier) and classifier.settings_.pretrained is not None
