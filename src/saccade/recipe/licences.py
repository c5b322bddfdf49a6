"""Whose weights a run began with, and what their licence allows: told, and kept with the model."""

from dataclasses import replace

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
