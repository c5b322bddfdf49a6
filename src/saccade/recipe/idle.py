"""Settings that another one leaves without effect: refused, before anything is read."""

from saccade.errors import SettingError
from saccade.settings import BaselineSettings, Settings, TransferSettings

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


def refuse_idle(settings: Settings) -> None:
    """Raise SettingError where a setting other than its default has no effect, as IDLE tells.

    >>> refuse_idle(BaselineSettings(margin=2.0))
    Traceback (most recent call last):
    saccade.errors.SettingError: The setting margin has no effect with loss=softmax; leave it out, or give another loss.
    """
    for name, (other, without) in IDLE[type(settings)].items():
        chosen = getattr(settings, other)
        values = chosen if isinstance(chosen, tuple) else (chosen,)
        if getattr(settings, name) != type(settings).model_fields[name].default and without.issuperset(values):
            raise SettingError(
                f"The setting {name} has no effect with {other}={','.join(values)}; leave it out, or give another "
                f"{other}."
            )
