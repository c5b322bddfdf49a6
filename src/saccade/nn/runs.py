"""A trained run as a source of weights: the network of its model, without its last layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from saccade.errors import ModelError, RunError, SettingError
from saccade.events import Finding, emit
from saccade.files import expanded, read_pair
from saccade.nn import zoo
from saccade.nn.published import OWN_LICENCE, RGB, Pretrained
from saccade.nn.trunks import fill, misfit
from saccade.nn.weights import shapes
from saccade.run import kind_of, without_model
from saccade.settings import TrainSettings

PREFIX = "run/"


def folder(text: str) -> Path | None:
    """Return the run's folder that a text asks for, as run/PATH or as a PATH that holds a model; else None."""
    path = expanded(text)
    if (path / "model" / "model.json").is_file():
        return path
    return expanded(text.removeprefix(PREFIX)) if text.startswith(PREFIX) and not path.is_file() else None


def of(run: Path) -> Pretrained:
    """Return the weights of the network that a run chose; of several that it averages, of the one with most say.

    Raises ModelError where there is no run, it chose no network, or one that cannot be transferred from.
    """
    described, tensors = _read(run)
    place = _chosen(described)
    if place is None:
        raise ModelError(
            f"The run in {run} chose {described['name']}, which is no network; give a run of `saccade train`, or of "
            "`saccade fit` that chose one."
        )
    member = described["members"][place]
    if len(described["members"]) > 1:
        detail = f"Of the run in {run}, which averages {described['name']}, {member['name']} is taken."
        emit(Finding(kind="weights", detail=detail))
    try:
        settings = TrainSettings(**member["config"]["settings"])
    except SettingError as error:
        raise ModelError(f"The run in {run} was written by another version of saccade ({error}).") from error
    if settings.model == "linear" or settings.preprocess != "standardize":
        what = "a linear classifier" if settings.model == "linear" else f"trained with preprocess={settings.preprocess}"
        raise ModelError(
            f"The network of the run in {run} is {what}, which fits its own images alone; give a run of another."
        )
    own = "/" not in settings.model
    if not own and (settings.activation or settings.norm):
        raise ModelError(
            f"The network of the run in {run} is {settings.model} with modules of other kinds than the library's, "
            "which cannot be transferred from; give a run of another."
        )
    mean, sd = (_colours(tensors[f"{place}.standardize.{name}"]) for name in ("mean_C", "sd_C"))
    inherited, width = described.get("weights") or {}, settings.width or 1.0
    return Pretrained(
        model=settings.model,
        file=run / "model" / "model.safetensors",
        mean=mean,
        sd=sd,
        size=member["size"],
        interpolation=settings.interpolation,
        licence=inherited.get("licence", OWN_LICENCE),
        source=f"run {run.name}" + (f", from {inherited['source']}" if inherited else ""),
        run=run.absolute(),
        settings={name: getattr(settings, name) for name in zoo.ARCHITECTURE} | {"width": width} if own else {},
    )


def trunk_of(weights: Pretrained) -> nn.Module:
    """Return the trunk of a run's network with its weights; raises ModelError as `of` does."""
    assert weights.run is not None
    described, tensors = _read(weights.run)
    prefix = f"{_chosen(described)}.body."
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if any(name.startswith("trunk.") for name in own):
        own = {name.removeprefix("trunk."): tensor for name, tensor in own.items() if name.startswith("trunk.")}
    if "/" in weights.model and (problem := misfit(weights.model, shapes(own))):
        raise ModelError(f'The run in {weights.run} does not fit the network "{weights.model}": {problem}.')
    network = zoo.trunk_of(TrainSettings(model=weights.model, size=weights.size, **weights.settings))
    fill(network, own)
    return network


def _chosen(described: Mapping[str, Any]) -> int | None:
    """Return the place of the network with most say among a model's members; None where none is a network."""
    networks = [place for place, each in enumerate(described["members"]) if each["kind"] == "network"]
    return max(networks, key=lambda place: float(described["members"][place]["weight"]), default=None)


def _read(run: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return model.json and the tensors of a run's model; nothing in them is executed."""
    place = run / "model"
    if not (place / "model.json").is_file():
        if kind_of(run) not in (None, "a run"):
            raise ModelError(without_model(run))
        kind = "holds no saved model" if run.is_dir() else "does not exist"
        raise ModelError(
            f'The run "{run}" {kind}; give the folder of a finished one, as in run/runs/20260102-030405-photos.'
        )
    try:
        described, data = read_pair(place / "model")
        return described, load(data)
    except RunError as error:
        raise ModelError(str(error)) from error
    except (OSError, LookupError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(f"The model in {place} is damaged ({type(error).__name__}).") from error


def _colours(values_C: Tensor) -> RGB:
    red, green, blue = (values_C.double() / 255).tolist()
    return red, green, blue
