"""The command that looks at a loss's curvature: `curvature`."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from saccade.cli.options import Config, Json, Out, Source, resolve
from saccade.cli.output import answer, working
from saccade.cli.text import percent
from saccade.settings import TrainSettings

FIXED = ("budget", "replay", "patience")
"""Settings that a network to be measured has none of: it is new, or trained for whole epochs."""


def curvature(
    source: Source,
    /,
    *,
    settings: Annotated[TrainSettings, Parameter(name="*")] = TrainSettings(),
    images: Annotated[int, Parameter(validator=Number(gte=2))] = 256,
    products: Annotated[int, Parameter(validator=Number(gte=1))] = 60,
    out: Out = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Measure a network's loss: how much steeper it is one way than another, and how noisy its gradient.

    The network is new, or trained for --epochs before.

    Parameters
    ----------
    images
        Training images that the loss is over, two or more.
    products
        Products of the Hessian with a vector, where a network is too large for the whole of it.
    """
    resolved = resolve(settings, config, fixed=FIXED)
    with working():
        from saccade.recipe.curvature import measure_curvature
        from saccade.recipe.idle import refuse_unmeasured

        refuse_unmeasured(resolved, settings.model_fields_set)
        told = measure_curvature(source, resolved, images=images, products=products, out=out)
    answer(told, text(told), json=json)


def text(told: Mapping[str, Any]) -> str:
    """Return the figures as a few lines."""
    largest, noise = told["largest"], told["noise_scale"]
    bound = "" if told["method"] == "exact" else "at least "
    rows = {
        "loss": f"{told['loss']:.4g} over {told['images']:,} images, after {told['epochs']:g} "
        + ("epoch" if told["epochs"] == 1 else "epochs"),
        "gradient": f"{told['gradient_norm']:.3g} long, of {told['parameters']:,} parameters",
        "eigenvalues": f"{told['smallest']:.3g} to {largest:.3g}, mean {told['mean']:.3g}; "
        f"{percent(told['negative_share'])} below 0, {percent(told['flat_share'])} flat",
        "leading": "  ".join(f"{value:.3g}" for value in told["leading"][:6]) or "not known: give more --products",
        "condition": "" if told["condition"] is None else f"{bound}{told['condition']:.3g}",
        "stable": f"learning rates below {2 / largest:.3g}" if largest > 0 else "it curves up nowhere",
        "noise": "no gradient can be told from it"
        if noise is None
        else f"as large as the gradient in batches of {noise:,.0f} images",
        "drawn": f"{told['folder']}/curvature.html",
    }
    return "\n".join(f"{name:<12} {row}" for name, row in rows.items() if row)
