"""Settings that another one leaves without effect: refused, before anything is read."""

from collections.abc import Collection

from saccade.errors import SettingError
from saccade.settings import BaselineSettings, Settings, TrainSettings, TransferSettings

IDLE: dict[type[Settings], dict[str, tuple[str, set[str]]]] = {
    BaselineSettings: {
        "strength": ("penalty", {"none"}),
        "beta": ("penalty", {"none", "l2", "l1"}),
        "margin": ("loss", {"softmax"}),
        "learning_rate": ("solver", {"optimum"}),
        "batch_size": ("solver", {"optimum"}),
        "epochs": ("solver", {"optimum"}),
        "stage": ("pretrained", {"none"}),
        "deep_size": ("pretrained", {"none"}),
    },
    TransferSettings: {"epochs": ("cell", {"top", "stages"})},
}
"""Of each kind of settings by name: another setting, and the values of it with which this one does nothing."""

PREDICTING = {"views", "test_views"}
"""Settings of how a network predicts, which no curvature of its loss depends on."""
TRAINING = {
    "thaw", "accumulate", "learning_rate", "lowest_rate", "schedule", "warmup", "clip", "ema", "swa", "snapshots",
    "flip", "translate", "cutout", "random_crops", "augment", "mixup", "cutmix", "grow",
    "dropout", "dropconnect", "stochastic_depth",
}  # fmt: skip
"""Settings of how a network is trained, on which none depends at new weights."""


def refuse_idle(settings: Settings, **found: str) -> None:
    """Raise SettingError where a setting other than its default has no effect, as IDLE tells.

    Of settings that leave it open, such as pretrained=auto, `found` is what they came to on this machine.

    >>> refuse_idle(BaselineSettings(margin=2.0))
    Traceback (most recent call last):
    saccade.errors.SettingError: The setting margin has no effect with loss=softmax; leave it out, or give another loss.
    """
    for name, (other, without) in IDLE[type(settings)].items():
        chosen = getattr(settings, other)
        came = found.get(other, chosen)
        values = came if isinstance(came, tuple) else (came,)
        if getattr(settings, name) != type(settings).model_fields[name].default and without.issuperset(values):
            why = "" if came == chosen else f", which {chosen} comes to on this machine"
            raise SettingError(
                f"The setting {name} has no effect with {other}={','.join(values)}{why}; leave it out, or give another "
                f"{other}."
            )


def refuse_unmeasured(settings: TrainSettings, given: Collection[str]) -> None:
    """Raise SettingError where one of the settings `given` other than its default has no effect on a loss's curvature.

    >>> refuse_unmeasured(TrainSettings(mixup=0.2), ["mixup"])
    Traceback (most recent call last):
    saccade.errors.SettingError: The setting mixup has no effect on the curvature at new weights; leave it out, or give
    epochs to train for.
    """
    idle = PREDICTING if settings.epochs else PREDICTING | TRAINING
    for name in TrainSettings.model_fields:
        if name in idle.intersection(given) and getattr(settings, name) != getattr(TrainSettings(), name):
            when, instead = ("", "") if name in PREDICTING else (" at new weights", ", or give epochs to train for")
            raise SettingError(f"The setting {name} has no effect on the curvature{when}; leave it out{instead}.")
