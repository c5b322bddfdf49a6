"""Whose weights a run began with, and what their licence allows: told, and kept with the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from saccade.classifiers import Model, NetworkClassifier
from saccade.events import Finding, emit
from saccade.nn.published import Pretrained, forbids_commerce


def tell_licence(weights: Pretrained | None) -> None:
    """Emit a warning where the licence of weights forbids commercial use, for it binds what is trained from them."""
    if weights is not None and forbids_commerce(weights.licence):
        detail = (
            f"The licence of the weights of {weights.model} ({weights.licence}, from {weights.source}) forbids "
            "commercial use, of what is trained from them too."
        )
        emit(Finding(kind="licence", severity="warning", detail=detail))


def marked(model: Model, weights: Pretrained | None) -> Model:
    """Return the model with the source and the licence of the weights that a network in it began with."""
    begun = any(
        isinstance(member.classifier, NetworkClassifier) and member.classifier.settings_.pretrained is not None
        for member in model.members
    )
    if weights is None or not begun:
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
