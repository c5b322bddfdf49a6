"""Volumes against hooks on real networks, PyTorch's own count of products, and gradients as far as they reach."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.errors import ModelError
from saccade.nn import zoo
from saccade.nn.blocks import Blocks
from saccade.nn.tiling import Window
from saccade.nn.trunks import features
from saccade.nn.volumes import Volumes, named, volumes

NETWORKS = [
    ("timm/resnet10t", 64), ("timm/mobilenetv3_small_050", 64), ("timm/vit_tiny_patch16_224", 64),
    ("timm/convnext_atto", 64), ("torchvision/googlenet", 64), ("torchvision/shufflenet_v2_x0_5", 64), ("convnet", 32),
    ("mlp", 32), ("conv32f5 pool conv64 pool fc128", 32),
]  # fmt: skip


def hooked(network: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape that each layer without layers of its own gave last, by hooks on the real network."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        if not any(True for _ in module.children()):

            def keep(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                if isinstance(output, Tensor):
                    shapes[name] = tuple(output.shape[1:])

            module.register_forward_hook(keep)
    with torch.no_grad():
        network.eval()(x)
    return shapes


@pytest.mark.parametrize(("name", "side"), NETWORKS)
def test_a_table_is_that_of_the_real_network(name: str, side: int) -> None:
    found = named(name, side, classes=10)
    network, x = zoo.new(name, classes=10, side=side), torch.rand(1, 3, side, side)
    shapes = hooked(network, x)
    for layer in found.layers:
        if layer.layer in shapes:
            assert layer.output == shapes[layer.layer], layer
    weighted = {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and n in shapes}
    assert weighted <= {layer.layer for layer in found.layers}
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    # PyTorch counts the products of attention only where it does them one by one.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(x)
    products, counted = found.multiply_adds, counter.get_total_flops()
    assert 2 * products == counted


def test_training_memory_is_what_autograd_keeps() -> None:
    for name in ("timm/resnet10t", "convnet"):
        network = zoo.new(name, classes=10, side=32).train()

        weights = {each.data_ptr() for each in (*network.parameters(), *network.buffers())}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, weights: set[int] = weights, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            scores_NK = network(torch.rand(2, 3, 32, 32))
        found = named(name, 32, classes=10)
        assert found.training_bytes == pytest.approx(sum(kept.values()) / 2, abs=len(found.layers))
        del scores_NK


def test_the_lectures_figures() -> None:
    """AlexNet's first layers as lecture 5 and 9 work them out."""
    found = named("conv96f11s4p0 pool3s2 conv256f5 pool3s2", 227, blocks=Blocks(norm="none"))
    first, _, pooled, second, *_ = found.layers
    assert (first.output, first.parameters, first.multiply_adds) == ((96, 55, 55), 11 * 11 * 3 * 96 + 96, 105_415_200)
    assert (pooled.output, pooled.parameters, pooled.field) == ((96, 27, 27), 0, (19, 19))
    assert (second.output, second.parameters) == ((256, 27, 27), 25 * 96 * 256 + 256)
    assert first.training_bytes == 4 * 3 * 227 * 227  # the image
    assert first.prediction_bytes == 4 * (3 * 227 * 227 + 96 * 55 * 55)  # the image and the output


def positive(network: nn.Module) -> nn.Module:
    """Return a network whose weights are all positive, so that no gradient cancels."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)
    return network.eval()


def reach(network: nn.Module, layer: str, side: int) -> int:
    """Return how many rows of the image the middle place of a layer's output depends on."""
    outputs: list[Tensor] = []
    network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: outputs.append(output))
    x = torch.rand(1, 3, side, side, requires_grad=True)
    network(x)
    middle = outputs[0].shape[2] // 2
    outputs[0][0, :, middle, middle].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    return int(rows.max() - rows.min()) + 1


@pytest.mark.parametrize(
    ("name", "side", "layers"),
    [
        ("timm/resnet10t", 160, ["conv1.6", "maxpool", "layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2"]),
        ("convnet", 40, ["whitening", "stages.0.change", "stages.0.refine", "stages.1.refine"]),
        ("conv4f5 pool3s2 conv4f3s2 conv4f7", 63, ["0", "3", "4", "7"]),
    ],
)
def test_a_receptive_field_is_as_far_as_gradients_reach(name: str, side: int, layers: list[str]) -> None:
    found = {layer.layer: layer for layer in named(name, side, classes=3).layers}
    network = zoo.new(name, classes=3, side=side)
    for place, module in list(network.named_modules()):  # averages let through what maxima hide
        if isinstance(module, nn.MaxPool2d):
            pool = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            network.set_submodule(place, pool)
    positive(network)
    for layer in layers:
        field = found[layer].field
        assert field is not None
        assert field == (reach(network, layer, side),) * 2, layer


def test_what_is_seen_through_windows_without_a_rule_is_unknown() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ConvTranspose2d(3, 4, 3, stride=2), nn.Conv2d(4, 1, 3))
    _, wider, last = volumes(network, 9).layers
    assert (wider.kind, wider.output, wider.field, wider.unknown) == ("ConvTranspose2d 3x3/2", (4, 15, 15), None, True)
    assert (last.field, last.unknown) == (None, True)
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Flatten(2), nn.Conv1d(3, 4, 3, stride=2), nn.ReLU())
    first, second, last = volumes(network, 9).layers
    assert (first.kind, first.field, first.unknown) == ("Conv2d 3x3", (3, 3), False)
    assert (second.kind, second.field, second.unknown) == ("Conv1d 3/2", None, True)
    assert (last.field, last.unknown) == (None, True)


def test_what_sees_all_says_so() -> None:
    by_name = {layer.layer: layer for layer in named("timm/vit_tiny_patch16_224", 224).layers}
    assert by_name["patch_embed.proj"].field == (16, 16)
    assert by_name["blocks.0.attn.qkv"].field == (16, 16)
    assert by_name["blocks.0.attn.proj"].field is None
    assert named("torchvision/resnet18", 224).layers[-1].field is None
    assert named("linear", 32).layers[-1].field is None


def test_dropped_borders_are_shown_where_a_zoo_network_has_them() -> None:
    by_name = {layer.layer: layer for layer in named("torchvision/resnet18", 224).layers}
    assert (by_name["conv1"].dropped, by_name["conv1"].dropped_inputs) == (1, 0)  # (224 + 6 - 7) % 2, of padding
    by_name = {layer.layer: layer for layer in named("torchvision/alexnet", 64).layers}
    assert (by_name["features.2"].dropped, by_name["features.2"].dropped_inputs) == ((15 - 3) % 2, 0)
    odd = volumes(nn.Sequential(nn.Conv2d(3, 4, 3, stride=3), nn.MaxPool2d(2)), 32)
    assert [layer.dropped_inputs for layer in odd.layers] == [2, 0]
    assert [layer.dropped for layer in volumes(nn.MaxPool2d(2, ceil_mode=True), 7).layers] == [0]


def test_a_network_of_ones_own_is_left_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(), nn.Linear(3600, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = volumes(network.train(), 32)
    assert [layer.layer for layer in found.layers] == ["0", "1", "3", "4"]
    assert [layer.multiply_adds for layer in found.layers] == [27 * 4 * 900, 0, 0, 7200]
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network[0]._forward_hooks


def test_shared_and_idle_parameters_are_counted_once() -> None:
    shared = nn.Linear(8, 8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), shared, shared)
    network.register_parameter("idle", nn.Parameter(torch.zeros(5)))
    assert volumes(network, 4).parameters == 48 * 8 + 8 + 72 + 5


def test_large_networks_take_no_memory_and_little_time() -> None:
    found = named("timm/vit_large_patch16_224", 224)
    assert 300e6 < found.parameters < 310e6
    assert 59e9 < found.multiply_adds < 63e9


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r'^The network "torchvision/vit_b_16" cannot take images of 32 x 32 pixels \('
    ):
        named("torchvision/vit_b_16", 32)
    with pytest.raises(ModelError, match=r'^There is no network "resnet19"'):
        named("resnet19")


def test_a_refusal_is_one_sentence_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """PyTorch logs the traceback of an operation that shapes without content do not allow."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before = log.disabled
    log.addHandler(caplog.handler)
    try:
        with pytest.raises(ModelError, match=r'^The network "timm/coat_tiny" cannot take images of 48 x 48 pixels \('):
            named("timm/coat_tiny", 48)
    finally:
        log.removeHandler(caplog.handler)
    assert not caplog.records
    assert log.disabled == before


class Speechless(nn.Module):
    def forward(self, x_NCHW: Tensor) -> Tensor:
        raise AssertionError("")


@pytest.mark.parametrize(
    "ask",
    [
        lambda network: volumes(network, 48, "mine"),
        lambda network: zoo.check_takes(network, "mine", 48),
        lambda network: features(network, 48),
    ],
)
def test_what_a_network_refuses_without_a_word_is_refused_by_the_name_of_its_error(
    ask: Callable[[nn.Module], object],
) -> None:
    network = Speechless()
    network.weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(ModelError) as refused:
        ask(network)
    assert str(refused.value).endswith(" cannot take images of 48 x 48 pixels (AssertionError); give another size.")


def sides(found: Volumes) -> list[int]:
    return [layer.output[-1] for layer in found.layers if len(layer.output) == 3]


@pytest.mark.parametrize("width", [1, 2, 3, 5, 11])
def test_a_window_tiles_as_pytorch_slides_it(width: int) -> None:
    for stride in (1, 2, 3, 4):
        for padding in range(width // 2 + 1):
            window, layer = Window(width, stride, padding), nn.Conv2d(1, 1, width, stride, padding)
            for side in (11, 12, 13, 14):
                assert layer(torch.zeros(1, 1, side, side)).shape[-1] == window.side(side)
                ends = (window.side(side) - 1) * stride + width  # of the padded input
                assert side + 2 * padding - ends == window.left_over(side)
                for other in window.nearest(side):
                    assert other.tiles(side)
                assert all(window.tiles(other) for other in window.nearest_sides(side))


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        attempt()
    return str(caught.value)


def test_what_does_not_tile_is_refused_with_the_nearest_that_does() -> None:
    assert refusal(lambda: zoo.build("conv96f11s4p0", classes=10, side=224)) == (
        'The layer "conv96f11s4p0" does not tile its input of 224 x 224: (224 - 11 + 2·0) / 4 + 1 = 54.25. '
        "The nearest that do: f11s3p0 → 72 x 72, f12s4p0 → 54 x 54, f11s5p1 → 44 x 44; or inputs of 223 or 227."
    )
    assert "does not tile its input of 3 x 3: (3 - 5 + 2·0) / 1 + 1 = -1." in refusal(
        lambda: zoo.build("conv4f5p0", classes=2, side=3)
    )


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        (
            "conv32 pol",
            '"pol" is no layer; expected such as conv32, conv64f5s2p2, pool, pool3s2, global or fc128.',
        ),
        ("fc10f3", '"fc10f3" is no layer; expected such as conv32, conv64f5s2p2, pool, pool3s2, global or fc128.'),
        ("fc10 conv3", 'The layer "conv3" in "fc10 conv3" needs an image; put it before the first fc.'),
        ("conv3p9", 'The layer "conv3p9" cannot be: F and S are 1 or more, and P is at most half of F.'),
        ("conv3s0", 'The layer "conv3s0" cannot be: F and S are 1 or more, and P is at most half of F.'),
    ],
)
def test_a_description_that_is_wrong_says_where(description: str, sentence: str) -> None:
    for attempt in (zoo.check_known, lambda name: zoo.build(name, classes=2, side=16)):
        assert refusal(partial(attempt, description)) == sentence


def test_a_description_is_the_network_it_draws() -> None:
    network = zoo.new("conv8f5 pool3s2 conv6 global fc7", classes=4, side=17, blocks=Blocks(activation="tanh"))
    names = [type(module).__name__ for module in network.children()]
    assert names == [
        "Conv2d", "BatchNorm2d", "Tanh", "MaxPool2d", "Conv2d", "BatchNorm2d", "Tanh", "GlobalMaxPool",
        "Linear", "BatchNorm1d", "Tanh", "Linear",
    ]  # fmt: skip
    assert sides(named("conv8f5 pool3s2 conv6 global fc7", 17)) == [17, 17, 17, 8, 8, 8, 8]
    assert network(torch.rand(3, 3, 17, 17)).shape == (3, 4)
    fractional = zoo.new("conv8 pool conv8 pool fc9", classes=4, side=17, blocks=Blocks(pool="fractional", norm="none"))
    assert fractional(torch.rand(3, 3, 17, 17)).shape == (3, 4)
