"""Pretrained weights: by name, in a file, or whatever is at hand on this machine; loaded without the head."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from saccade.errors import ModelError, did_you_mean
from saccade.events import Finding, emit
from saccade.files import expanded
from saccade.nn import runs, zoo
from saccade.nn.published import Pretrained, Published, anything_cached, downloaded, published, tags
from saccade.nn.trunks import converted, fill, misfit, trunk
from saccade.nn.weights import SUFFIXES, architectures, plainness, read, shapes
from saccade.settings import TrainSettings

AUTO = (
    "timm/mobilenetv3_large_100",
    "torchvision/mobilenet_v3_large",
    "timm/efficientnet_b0",
    "torchvision/efficientnet_b0",
    "torchvision/regnet_y_400mf",
    "torchvision/resnet18",
    "timm/resnet18",
    "torchvision/resnet34",
    "timm/resnet34",
    "torchvision/mobilenet_v3_small",
    "torchvision/mobilenet_v2",
    "torchvision/resnet50",
    "timm/resnet50",
    "timm/convnext_tiny",
    "torchvision/convnext_tiny",
    "torchvision/densenet121",
    "torchvision/squeezenet1_1",
    "torchvision/squeezenet1_0",
)
"""What `auto` looks for, first come first served: good starts for small sets of photos, those cheap on a CPU first."""


def find(text: str) -> Pretrained | None:
    """Return the weights that --pretrained asks for: auto, none, NAME, FILE, NAME=FILE or run/PATH; None for none.

    auto takes the first of `AUTO` that is whole in the caches of torch and the Hugging Face hub, never
    touching the network, and gives None where there is none. A NAME without its family is torchvision's,
    else timm's; its weights come from those caches, or are downloaded into them. A FILE's network is known
    by its tensors; where several networks have the same, the file's name decides, else the plainest is taken.
    `file/` before a FILE says that it is one; a run's folder stands for the network that was trained in it.
    Raises ModelError where there is no such network, no such weights, or a file that does not fit.
    """
    if text in ("none", "auto"):
        return _at_hand() if text == "auto" else None
    if text.startswith("file/"):
        return _from_file(expanded(text.removeprefix("file/")))
    if (run := runs.folder(text)) is not None:
        return runs.of(run)
    path = expanded(text)
    name, equals, file = text.partition("=")
    if equals and not path.is_file():
        return _from_named_file(name, expanded(file.removeprefix("file/")))
    if path.is_file() or path.is_absolute() or text.endswith(SUFFIXES):
        return _from_file(path)
    return _by_name(text)


def load(pretrained: Pretrained) -> nn.Module:
    """Return the network with its weights and without its head: normalised images (N, 3, H, W) → features (N, D).

    Every tensor but the head's must be there and fit. Raises ModelError where the file has none, was
    damaged since, or does not fit.
    """
    if pretrained.file is None:
        raise ModelError(f'There is no file with the weights of "{pretrained.model}"; have them found by name or file.')
    if pretrained.run is not None:
        return runs.trunk_of(pretrained)
    tensors: Mapping[str, Tensor] = read(pretrained.file)
    if problem := misfit(pretrained.model, shapes(tensors)):
        rewritten = converted(pretrained.model, tensors)
        if rewritten is None:
            raise _does_not_fit(pretrained.file, pretrained.model, problem, tensors)
        tensors = rewritten
    if unusable := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ModelError(f'"{pretrained.file}" holds values that are not numbers (in {unusable[0]}); use another file.')
    network = trunk(pretrained.model)
    fill(network, tensors)
    return network


def suited(settings: TrainSettings, weights: Pretrained | None) -> TrainSettings:
    """Return the settings with the network that weights are of, made as the run they come from made it.

    Raises ModelError where a network that was named, or what it is made of, is another.
    """
    if weights is None:
        zoo.check_known(settings.model)
        return settings if settings.pretrained is None else settings.model_copy(update={"pretrained": None})
    given, own = (_plain(model).partition(".")[0] for model in (settings.model, weights.model))
    if "model" in settings.model_fields_set and given != own:
        raise ModelError(
            f"The pretrained weights are of {weights.model}, and model={settings.model} was given; leave the model out."
        )
    fixed = {**weights.settings, "size": weights.size} if weights.settings else {}
    for name, value in fixed.items():
        if name in settings.model_fields_set and getattr(settings, name) not in (value, None):
            raise ModelError(
                f"The run's network has {name}={value}, and {name}={getattr(settings, name)} was given; leave it out."
            )
    if "interpolation" not in settings.model_fields_set:
        fixed["interpolation"] = weights.interpolation
    return settings.model_copy(update={**fixed, "model": weights.model})


def _at_hand() -> Pretrained | None:
    """Return the first of AUTO that is cached and whole; a damaged file is passed over, and said so."""
    for model in AUTO if anything_cached() else ():
        for weights in published(model):
            if (file := weights.cached()) is None:
                continue
            try:
                return _checked(weights, file)
            except ModelError as error:
                emit(Finding(kind="weights", detail=f"Cached weights are passed over: {error}", severity="warning"))
    return None


def _by_name(name: str) -> Pretrained:
    known = [weights for model in _meant(name) for weights in published(model) if weights.known]
    if not known:
        raise ModelError(f'Nobody published weights of "{name}"; --pretrained {name}=FILE takes a file of yours.')
    for weights in known:
        if (file := weights.cached()) is not None:
            return _checked(weights, file)
    return _checked(known[0], downloaded(known[0]))


def _checked(weights: Published, file: Path) -> Pretrained:
    """Return published weights with their file, once its tensors are seen to fit."""
    tensors = read(file)
    problem = misfit(weights.model, shapes(tensors))
    if problem and not _converts(weights.model, tensors):
        raise _does_not_fit(file, weights.model, problem, tensors)
    return _as_published(weights, file)


def _as_published(weights: Published, file: Path) -> Pretrained:
    return Pretrained(
        model=weights.model,
        file=file,
        mean=weights.mean,
        sd=weights.sd,
        size=weights.size,
        licence=weights.licence,
        source=weights.source,
        interpolation=weights.interpolation,
    )


def _from_named_file(name: str, file: Path) -> Pretrained:
    models = _meant(name)
    tensors = read(file)
    problems = {model: misfit(model, shapes(tensors)) for model in models}
    for model, problem in problems.items():
        if not problem or _converts(model, tensors):
            return _described(model, file)
    raise _does_not_fit(file, models[0], problems[models[0]], tensors)


def _from_file(file: Path) -> Pretrained:
    tensors = read(file)
    stem = file.stem.lower().replace("-", "_")
    same = sorted(architectures(shapes(tensors)), key=lambda model: (-_named_in(stem, model), plainness(model)))
    for model in same:
        if not misfit(model, shapes(tensors)):
            _tell_others(file, model, [other for other in same if _plain(other) != _plain(model)], stem)
            return _described(model, file)
    listed = zoo.names()
    hinted = sorted((m for f in ("torchvision", "timm") for m in listed[f] if _named_in(stem, m)), key=len)
    for model in hinted[:-3:-1]:  # the longest names say most: resnet18d, not resnet18
        if not misfit(model, shapes(tensors)) or _converts(model, tensors):
            return _described(model, file)
    raise ModelError(
        f'The tensors of "{file}" are those of no network that is known here; '
        f"name it, as in --pretrained NAME={file} (`saccade models` lists the names)."
    )


def _tell_others(file: Path, model: str, others: list[str], stem: str) -> None:
    """Say which network was taken where others, that may compute something else, have the same tensors."""
    if others and not _named_in(stem, model):
        also = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        detail = f"{file.name} is taken for {model}; it would fit {also} too: NAME=FILE says which."
        emit(Finding(kind="weights", detail=detail))


def _described(model: str, file: Path) -> Pretrained:
    """Return what is known of weights in a file: all where it has the name of published ones, else what is usual."""
    known = published(model)
    for weights in known:
        if weights.file_name == file.name:
            return _as_published(weights, file)
    usual = _as_published(known[0], file) if known else Pretrained(model, file)
    return replace(usual, model=model, licence="unknown", source=file.name)


def _does_not_fit(file: Path, model: str, problem: str, tensors: Mapping[str, Tensor]) -> ModelError:
    others = architectures(shapes(tensors))
    hint = f'; it fits "{others[0]}"' if others else ""
    return ModelError(f'"{file}" does not fit the network "{model}": {problem}{hint}.')


def _converts(model: str, tensors: Mapping[str, Tensor]) -> bool:
    return converted(model, {name: tensor.to("meta") for name, tensor in tensors.items()}, device="meta") is not None


def _meant(name: str) -> list[str]:
    """Return the networks a name may mean, torchvision's first; raise ModelError where there is none."""
    listed = zoo.names()
    family, slash, rest = name.rpartition("/")
    plain, dot, _ = rest.partition(".")
    families = [family] if slash else ["torchvision", "timm"]
    found = [f"{f}/{rest}" for f in families if f"{f}/{plain}" in listed.get(f, ()) and (f == "timm" or not dot)]
    if not found:
        zoo.check_known(name)
        raise ModelError(f"saccade's own network \"{name}\" has no pretrained weights; give torchvision's or timm's.")
    if dot and rest not in (tagged := tags(plain)):
        raise ModelError(f'timm has no weights "{rest}".{did_you_mean(rest, tagged)}')
    return found


def _plain(model: str) -> str:
    return model.rpartition("/")[2]


def _named_in(stem: str, model: str) -> int:
    """Return how many letters of a file's name are this network's name: 0 where it is not in it."""
    return len(_plain(model)) if _plain(model) in stem else 0
