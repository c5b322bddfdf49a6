"""Pretrained weights: known by their tensors, refused in one sentence, found in caches, loaded without the head."""

import pickle
import random
import shutil
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from saccade.errors import ModelError
from saccade.events import Event, Finding, Progress, listening
from saccade.nn import zoo
from saccade.nn.pretrained import AUTO, find, load
from saccade.nn.published import Pretrained, published
from saccade.nn.trunks import Weightless, features, misfit, outline, trunk
from saccade.nn.weights import architectures, fingerprint, read, shapes

SQUEEZENET = Path(__file__).parents[3] / "shared" / "weights" / "squeezenet1_0_imagenet.safetensors"
needs_squeezenet = pytest.mark.skipif(not SQUEEZENET.exists(), reason="the SqueezeNet weights are not on this machine")

FURTHER = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the caches of torch and of the Hugging Face hub at empty folders, and the network at nothing."""
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME", "NO_PROXY", "no_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{_closed_port()}")
    return tmp_path


def _closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@cache
def network(model: str, classes: int = 1000) -> nn.Module:
    """Return a whole network with random weights and running statistics, as its library builds it."""
    family, _, name = model.partition("/")
    torch.manual_seed(0)
    built: nn.Module = {"torchvision": get_model, "timm": timm.create_model}[family](name, num_classes=classes)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return built.eval()


def state(model: str, classes: int = 1000) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network(model, classes).state_dict().items()}


def into_head(whole: nn.Module, head: str, x_NCHW: Tensor) -> Tensor:
    """Return what reaches a whole network's head."""
    caught: list[Tensor] = []
    hook = whole.get_submodule(head).register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        whole(x_NCHW)
    hook.remove()
    return caught[0].flatten(1)


def message(attempt: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        attempt()
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def images(n: int, side: int) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


MADE = [
    ("torchvision/resnet18", "fc", 512),
    ("torchvision/mobilenet_v3_small", "classifier.3", 1024),
    ("torchvision/densenet121", "classifier", 1024),
    ("torchvision/efficientnet_b0", "classifier.1", 1280),
    ("torchvision/shufflenet_v2_x0_5", "fc", 1024),
    ("torchvision/mnasnet0_5", "classifier.1", 1280),
    ("torchvision/regnet_y_400mf", "fc", 440),
    ("timm/resnet10t", "fc", 512),
    ("timm/mobilenetv3_small_050", "classifier", 1024),
    ("timm/efficientnet_b0", "classifier", 1280),
]


@pytest.mark.parametrize(("model", "head", "width"), MADE)
def test_a_files_network_is_known_by_its_tensors_and_gives_what_reaches_the_head(
    model: str, head: str, width: int, tmp_path: Path
) -> None:
    """Fine-tuned to 7 classes, under a name that says nothing."""
    save_file(state(model, 7), tmp_path / "best.safetensors")
    found = find(str(tmp_path / "best.safetensors"))
    assert found is not None
    assert (found.model, found.file) == (model, tmp_path / "best.safetensors")
    assert (found.licence, found.source, found.size) == ("unknown", "best.safetensors", published(model)[0].size)
    body = load(found).eval()
    with torch.no_grad():
        features_ND = body(images(2, 64))
    torch.testing.assert_close(features_ND, into_head(network(model, 7), head, images(2, 64)))
    assert features(body, 64) == width == features_ND.shape[1]


def test_every_torchvision_network_gives_what_its_last_layer_takes() -> None:
    """At its own side, without memory for weights."""
    wrong = {}
    for model in zoo.names()["torchvision"]:
        with Weightless():
            body = trunk(model).to("meta")
            whole = get_model(model.partition("/")[2], **FURTHER.get(model.partition("/")[2], {}))
        last = [m for m in whole.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
        width = last.weight.shape[1]
        if (found := features(body, published(model)[0].size)) != width:
            wrong[model] = (found, width)
    assert wrong == {}


def test_hidden_fully_connected_layers_stay() -> None:
    for model, layers in (("torchvision/alexnet", 2), ("torchvision/vgg11", 2)):
        with Weightless():
            body = trunk(model)
        assert sum(isinstance(module, nn.Linear) for module in body.modules()) == layers
        assert features(body, 224) == 4096


def test_auxiliary_heads_are_left_out(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = get_model("googlenet", aux_logits=True, init_weights=False, transform_input=True).eval()
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    found = find(str(tmp_path / "w.pth"))
    assert found is not None
    assert found.model == "torchvision/googlenet"
    with torch.no_grad():
        features_ND = load(found).eval()(images(2, 64))
    torch.testing.assert_close(features_ND, into_head(whole, "fc", images(2, 64)))


@needs_squeezenet
def test_real_weights_are_recognised_and_see_what_squeezenet_sees() -> None:
    find("none")  # what is imported once is not what is timed
    zoo.names()
    began = perf_counter()
    found = find(str(SQUEEZENET))
    assert perf_counter() - began < 2
    name = SQUEEZENET.name
    assert found == Pretrained(
        "torchvision/squeezenet1_0", SQUEEZENET, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, "unknown", name
    )
    assert find(f"squeezenet1_0={SQUEEZENET}") == find(f"torchvision/squeezenet1_0={SQUEEZENET}") == found
    whole = get_model("squeezenet1_0", weights=None).eval()
    whole.load_state_dict(read(SQUEEZENET))
    with torch.no_grad():
        features_ND = load(found).eval()(images(2, 96))
        torch.testing.assert_close(features_ND, whole.features(images(2, 96)).relu().mean((2, 3)))
    assert features_ND.shape == (2, 512)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": {f"module.{name}": value for name, value in tensors.items()}},
        lambda tensors: {f"_orig_mod.module.{name}": value for name, value in tensors.items()},
        lambda tensors: {name: value for name, value in tensors.items() if "num_batches_tracked" not in name},
        lambda tensors: {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()},
    ],
    ids=["wrapped", "wrapped and prefixed", "compiled", "before num_batches_tracked", "half precision"],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_wrappings_come_off(wrap: Callable[[dict[str, Tensor]], object], suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    torch.save(wrap(state("timm/resnet10t", 3)), file, _use_new_zipfile_serialization=suffix != ".bin")
    found = find(str(file))
    assert found is not None
    assert found.model == "timm/resnet10t"
    loaded = load(found).state_dict()["layer1.0.conv1.weight"]
    torch.testing.assert_close(loaded, state("timm/resnet10t", 3)["layer1.0.conv1.weight"], atol=1e-3, rtol=1e-3)


def test_torchvisions_old_names_are_understood(tmp_path: Path) -> None:
    """DenseNet's files say norm.1 for norm1, ViT's linear_1 for 0."""
    old = {}
    for name, value in state("torchvision/densenet121").items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.") if "denselayer" in name else name
        old[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "w.pth")
    found = find(str(tmp_path / "w.pth"))
    assert found is not None
    assert found.model == "torchvision/densenet121"
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): torch.zeros(shape)
        for name, shape in outline("torchvision/vit_b_16").body.items()
        if "encoder_layer_0" in name
    }
    torch.save(old, tmp_path / "vit.pth")
    assert {name.partition("mlp.")[2] for name in read(tmp_path / "vit.pth") if "mlp" in name} == {
        "0.weight",
        "0.bias",
        "3.weight",
        "3.bias",
    }


def test_the_authors_names_are_converted_where_timm_knows_how(tmp_path: Path) -> None:
    """ConvNeXt's authors said downsample_layers, dwconv and gamma: a file of theirs is loaded by timm's own rules."""
    renames = (
        ("stem.", "downsample_layers.0."),
        (".conv_dw.", ".dwconv."),
        (".mlp.fc1.", ".pwconv1."),
        (".mlp.fc2.", ".pwconv2."),
        ("head.norm.", "norm."),
        ("head.fc.", "head."),
    )
    theirs = {}
    for name, value in state("timm/convnext_atto").items():
        for ours, other in renames:
            name = name.replace(ours, other)
        parts = name.split(".")
        if parts[0] == "stages":
            kind = "stages" if parts[2] == "blocks" else "downsample_layers"
            name = ".".join([kind, parts[1], *parts[3:]])
        theirs[name] = value
    assert misfit("timm/convnext_atto", shapes(theirs)) != ""
    file = tmp_path / "convnext_atto_d2_from_authors.pth"
    torch.save({"model": theirs}, file)
    for text in (str(file), f"convnext_atto={file}"):
        found = find(text)
        assert found is not None
        assert found.model == "timm/convnext_atto"
        with torch.no_grad():
            features_ND = load(found).eval()(images(2, 64))
        torch.testing.assert_close(
            features_ND, into_head(network("timm/convnext_atto"), "head.fc", images(2, 64)), atol=1e-4, rtol=1e-4
        )


def test_of_networks_with_the_same_tensors_the_files_name_decides_then_plainness(tmp_path: Path) -> None:
    tensors = state("timm/efficientnet_b0", 5)
    same = architectures(shapes(tensors))
    assert {"timm/efficientnet_b0", "timm/tf_efficientnet_b0"} <= set(same)
    assert same[0] == "timm/efficientnet_b0"
    heard: list[Event] = []
    for name, model in (("x", "timm/efficientnet_b0"), ("my-TF_efficientnet_b0-3", "timm/tf_efficientnet_b0")):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with listening(heard.append):
            found = find(str(tmp_path / f"{name}.safetensors"))
        assert found is not None
        assert found.model == model
    [finding] = [event for event in heard if isinstance(event, Finding)]
    assert finding.detail.startswith("x.safetensors is taken for timm/efficientnet_b0; it would fit timm/")
    assert finding.detail.endswith("too: NAME=FILE says which.")


def test_a_file_under_a_published_name_has_its_description(tmp_path: Path) -> None:
    file = tmp_path / "resnet18-f37072fd.pth"
    torch.save(state("torchvision/resnet18"), file)
    found = find(str(file))
    assert found is not None
    assert found.source == "https://download.pytorch.org/models/resnet18-f37072fd.pth"


def test_files_that_do_not_fit_the_name_say_which_tensors(tmp_path: Path) -> None:
    tensors = state("torchvision/resnet18", 7)
    del tensors["bn1.weight"], tensors["bn1.running_mean"]
    tensors["conv1.weight"] = torch.zeros(32, 3, 3, 3)
    tensors |= {f"extra.{i}": torch.zeros(1) for i in range(4)}
    torch.save(tensors, tmp_path / "w.pth")
    assert message(lambda: find(f"resnet18={tmp_path / 'w.pth'}")) == (
        f'"{tmp_path / "w.pth"}" does not fit the network "torchvision/resnet18": '
        "2 tensors are missing (bn1.weight, bn1.running_mean), "
        "4 tensors are unexpected (extra.0, extra.1, extra.2, …), "
        "1 tensor is of another shape (conv1.weight: 32 x 3 x 3 x 3 instead of 64 x 3 x 7 x 7)."
    )
    assert message(lambda: load(Pretrained("timm/resnet18", tmp_path / "w.pth"))).startswith(
        f'"{tmp_path / "w.pth"}" does not fit the network "timm/resnet18": 2 tensors are missing'
    )


def test_where_another_network_fits_it_is_named(tmp_path: Path) -> None:
    save_file(state("timm/resnet10t", 3), tmp_path / "w.safetensors")
    text = message(lambda: find(f"resnet18={tmp_path / 'w.safetensors'}"))
    assert text.endswith('; it fits "timm/resnet10t".')
    assert "tensors are missing (conv1.weight, bn1.weight, bn1.bias, …)" in text or "conv1.weight" in text


def test_unknown_tensors_ask_for_a_name(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save(nn.Linear(3, 2).state_dict(), file)
    assert message(lambda: find(str(file))) == (
        f'The tensors of "{file}" are those of no network that is known here; '
        f"name it, as in --pretrained NAME={file} (`saccade models` lists the names)."
    )


def test_missing_files_are_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "no.pth", tmp_path):
        kind = "is a folder, not a file of weights" if file == tmp_path else "does not exist"
        expected = f'The weights file "{file}" {kind}; give a .safetensors or .pth file.'
        assert message(lambda: find(str(file))) == message(lambda: find(f"resnet18={file}")) == expected  # noqa: B023


def test_what_begins_with_file_is_one_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet18", "a=b", "run/x"):
        assert message(lambda: find(f"file/{name}")) == (  # noqa: B023
            f'The weights file "{name}" does not exist; give a .safetensors or .pth file.'
        )
    torch.save(state("timm/resnet10t"), tmp_path / "resnet18")
    found = find("file/resnet18")
    assert found is not None
    assert found.model == "timm/resnet10t"


def test_damaged_files_are_refused_up_front(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save(state("timm/resnet10t"), whole)
    legacy = tmp_path / "legacy.pth"
    torch.save(state("timm/resnet10t"), legacy, _use_new_zipfile_serialization=False)
    safe = tmp_path / "whole.safetensors"
    save_file(state("timm/resnet10t"), safe)
    draw = random.Random(0)
    for source in (whole, legacy, safe):
        content = source.read_bytes()
        for length in (0, 1, 9, 100, 3000, len(content) // 2, len(content) - 1):
            file = tmp_path / f"cut{source.suffix}"
            file.write_bytes(content[:length])
            assert message(lambda: find(str(file))).startswith(f'"{file}" is damaged or no ')  # noqa: B023
    for suffix in (".pth", ".safetensors", ".bin"):
        for length in (1, 10, 1000):
            file = tmp_path / f"noise{suffix}"
            file.write_bytes(draw.randbytes(length))
            assert message(lambda: find(str(file))).startswith(f'"{file}" is damaged or no ')  # noqa: B023
    misnamed = tmp_path / "misnamed.safetensors"
    torch.save({"weight": torch.zeros(2)}, misnamed)
    assert message(lambda: find(str(misnamed))) == (
        f'"{misnamed}" is no safetensors file but one of torch.save; name it .pth.'
    )
    file.write_text("hello")
    assert message(lambda: find(str(file))) == (
        f'"{file}" is damaged or no file of weights; give what torch.save(network.state_dict(), FILE) wrote.'
    )
    file.write_text("<!DOCTYPE html><title>404</title>")
    assert message(lambda: find(str(file))).startswith(f'"{file}" is damaged or no file of weights')


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.target,)  # type: ignore[return-value]


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    for file, zipped in ((tmp_path / "zip.pth", True), (tmp_path / "old.pth", False)):
        torch.save({"a": _Bomb(tmp_path / "ran")}, file, _use_new_zipfile_serialization=zipped)
        text = message(lambda: find(str(file)))  # noqa: B023
        assert text.startswith(f'"{file}" holds more than tensors (')
        assert text.endswith(
            "), which would run code and is never loaded; "
            "save only the weights, with torch.save(network.state_dict(), FILE)."
        )
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))
    message(lambda: find(str(tmp_path / "plain.pt")))
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    assert "(torch.nn.modules.linear.Linear)" in message(lambda: find(str(tmp_path / "module.pth")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 3, torch.zeros(2), {"state_dict": {"a": 1}}])
def test_files_without_named_tensors_are_refused(content: object, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(content, file)
    assert message(lambda: find(str(file))) == (
        f'The file "{file}" holds no tensors by name; save a network\'s weights with '
        "torch.save(network.state_dict(), FILE)."
    )


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    tensors = state("timm/resnet10t")
    tensors["bn1.weight"][3] = float("nan")
    save_file(tensors, tmp_path / "w.safetensors")
    found = find(str(tmp_path / "w.safetensors"))
    assert found is not None
    assert message(lambda: load(found)) == (
        f'"{found.file}" holds values that are not numbers (in bn1.weight); use another file.'
    )


def test_weights_without_a_file_are_not_loaded() -> None:
    assert message(lambda: load(Pretrained("timm/resnet10t", None))) == (
        'There is no file with the weights of "timm/resnet10t"; have them found by name or file.'
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("resnet81", 'There is no network "resnet81". Did you mean "timm/resnet18"? `saccade models` lists them.'),
        ("timm/resnet18.a1_in2k", 'timm has no weights "resnet18.a1_in2k". Did you mean "resnet18.a1_in1k"?'),
        ("convnet", "saccade's own network \"convnet\" has no pretrained weights; give torchvision's or timm's."),
        (
            "torchvision/resnet18.a1_in1k",
            (
                'There is no network "torchvision/resnet18.a1_in1k". Did you mean "torchvision/resnet18"? '
                "`saccade models` lists them."
            ),
        ),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(given: str, expected: str) -> None:
    with pytest.raises(ModelError) as caught:
        find(given)
    assert str(caught.value) == expected
    with pytest.raises(ModelError) as caught:
        find(f"{given}=w.pth")
    assert str(caught.value) == expected


def test_a_network_without_published_weights_says_so() -> None:
    name = next(n for n in timm.list_models("resnet*") if not any(w.known for w in published(f"timm/{n}")))
    assert message(lambda: find(f"timm/{name}")) == (
        f'Nobody published weights of "timm/{name}"; --pretrained timm/{name}=FILE takes a file of yours.'
    )


def test_networks_that_cannot_be_built_or_run_say_so() -> None:
    assert message(lambda: trunk("torchvision/resnet19")).startswith(
        'The network "torchvision/resnet19" cannot be built here ('
    )
    with Weightless():
        body = trunk("torchvision/vit_b_32")
    assert message(lambda: features(body, 32)) == (
        "The pretrained network cannot take images of 32 x 32 pixels "
        "(Wrong image height! Expected 224 but got 32!); give another size."
    )
    assert message(lambda: features(nn.Conv2d(3, 4, 1), 8)) == (
        "The pretrained network gives no row of features for an image ((1, 4, 8, 8)); give another one."
    )


def test_without_network_and_cache_the_place_of_the_file_is_named_and_works(caches: Path) -> None:
    """What the message says is done, and the next call finds the file there."""
    for name, place, model in (
        ("resnet18", "torch/hub/checkpoints/resnet18-f37072fd.pth", "torchvision/resnet18"),
        (
            "timm/resnet10t",
            "hf/hub/models--timm--resnet10t.c3_in1k/snapshots/main/model.safetensors",
            "timm/resnet10t.c3_in1k",
        ),
    ):
        began = perf_counter()
        text = message(lambda: find(name))  # noqa: B023
        assert perf_counter() - began < 8
        assert text.startswith(
            f'The weights of "{model}" are not on this machine and cannot be downloaded (no network, no connection to '
        )
        plain = model.partition(".")[0]
        assert text.endswith(
            f": put them at {caches / place}, or give a file of yours, as in --pretrained {plain}=FILE."
        )
        (caches / place).parent.mkdir(parents=True)
        tensors = state(plain)
        if place.endswith("safetensors"):
            save_file(tensors, caches / place)
        else:
            torch.save(tensors, caches / place)
        found = find(name)
        assert found is not None
        assert (found.model, found.file) == (model, caches / place)
        assert load(found).state_dict().keys() == outline(plain).body.keys() | {
            name for name in tensors if name.endswith("num_batches_tracked")
        }


def put(folder: Path, model: str) -> Path:
    """Put random weights where a library's cache would have a network's default ones."""
    place = published(model)[0].place()
    place.parent.mkdir(parents=True, exist_ok=True)
    tensors = state(model)
    save_file(tensors, place) if place.suffix == ".safetensors" else torch.save(tensors, place)
    assert folder in place.parents
    return place


def test_cached_weights_bring_their_own_description(caches: Path) -> None:
    put(caches, "timm/resnet10t")
    found = find("resnet10t")
    assert found == find("timm/resnet10t") == find("timm/resnet10t.c3_in1k") == find("resnet10t.c3_in1k")
    assert found is not None
    entry = timm.get_pretrained_cfg("resnet10t.c3_in1k")
    assert entry is not None
    assert (found.mean, found.sd, found.size) == (entry.mean, entry.std, entry.input_size[1])
    assert (found.licence, found.source) == ("apache-2.0", "timm/resnet10t.c3_in1k")
    place = published("timm/mobilenetv3_small_050")[0].place()
    place.parent.mkdir(parents=True)
    shutil.copy(found.file or "", place)
    assert message(lambda: find("mobilenetv3_small_050")).endswith('; it fits "timm/resnet10t".')


def test_auto_takes_the_first_of_its_table_that_is_whole(caches: Path) -> None:
    assert find("none") is None
    assert find("auto") is None
    put(caches, "timm/resnet10t")  # not in the table
    assert find("auto") is None
    slower = put(caches, "torchvision/resnet18")
    found = find("auto")
    assert found is not None
    assert (found.model, found.file) == ("torchvision/resnet18", slower)
    better = put(caches, "timm/mobilenetv3_large_100")
    found = find("auto")
    assert found is not None
    assert found.file == better
    assert found.licence == "apache-2.0"
    better.write_bytes(better.read_bytes()[:1000])
    heard: list[Event] = []
    with listening(heard.append):
        found = find("auto")
    assert found is not None
    assert found.file == slower
    [finding] = [event for event in heard if isinstance(event, Finding)]
    assert finding.severity == "warning"
    assert finding.detail.startswith(f'Cached weights are passed over: "{better}" is damaged')


def test_autos_table_names_networks_with_weights() -> None:
    assert len(set(AUTO)) == len(AUTO)
    for model in AUTO:
        assert published(model)[0].known, model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Serve files as the Hugging Face hub does, on this machine; what is put into the mapping is there."""
    files: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("ETag", '"etag"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"" if "broken" in files else files.get(self.path, b""))

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield files
        server.shutdown()


def test_weights_are_downloaded_once_into_the_hubs_cache(hub: dict[str, bytes], caches: Path) -> None:
    save_file(state("timm/resnet10t"), caches / "w")
    address = "/timm/resnet10t.c3_in1k/resolve/main/model.safetensors"
    text = message(lambda: find("resnet10t"))
    assert "cannot be downloaded (" in text
    assert "no network" not in text
    hub |= {address: (caches / "w").read_bytes(), "broken": b""}
    assert "cannot be downloaded (" in message(lambda: find("resnet10t"))
    del hub["broken"]
    heard: list[Event] = []
    with listening(heard.append):
        found = find("resnet10t")
    assert [event.done for event in heard if isinstance(event, Progress)] == [0, 1]
    assert found is not None
    assert found.file is not None
    assert caches / "hf" in found.file.parents
    assert found.file.read_bytes() == hub.pop(address)
    assert find("resnet10t") == found


def test_the_table_of_fingerprints_is_that_of_the_installed_libraries() -> None:
    """Of a sample; `python scripts/architectures.py` writes it anew."""
    listed = zoo.names()
    sample = random.Random(0).sample(listed["timm"], 12) + random.Random(0).sample(listed["torchvision"], 8)
    for model in sample:
        given = outline(model)
        assert model in architectures(given.body), model
        for name in given.head:
            assert name not in given.body
    assert fingerprint({"a": (1, 2)}) == fingerprint({"a": (1, 2)}) != fingerprint({"a": (2, 1)})
