"""Penalties on weights against autograd, and against weight decay."""

from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch import nn
from torchvision.models import get_model

from saccade.optim import build_optimizer, decayed, penalized, penalty


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5))


def stepped(name: str, weight_decay: float, l1: float = 0.0, l2: float = 0.0, *, added: bool = False) -> list[float]:
    """Return the weights after two steps, the penalty `added` to the loss or put in by its gradient."""
    net = network()
    optimizer = build_optimizer(name, net, 0.05, weight_decay)
    if not added:
        optimizer = penalized(optimizer, decayed(net), l1, l2)
    x, y = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 4, 0])
    for _ in range(2):
        loss = nn.functional.cross_entropy(net(x), y)
        if added:
            loss = loss + penalty([weight for weight in net.parameters() if weight.ndim > 1], l1, l2)
        loss.backward()
        optimizer.step(1.0)
        optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()]).tolist()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize(("l1", "l2"), [(0.01, 0.0), (0.0, 0.1), (0.02, 0.05)])
def test_the_gradient_is_that_of_the_penalty_added_to_the_loss(name: str, l1: float, l2: float) -> None:
    assert stepped(name, 0.0, l1, l2) == pytest.approx(stepped(name, 0.0, l1, l2, added=True), abs=1e-5)
    assert stepped(name, 0.0, l1, l2) != pytest.approx(stepped(name, 0.0), abs=1e-5)


def test_weight_decay_and_l2_are_one_in_sgd_and_two_in_adamw() -> None:
    assert stepped("sgd", 0.1) == pytest.approx(stepped("sgd", 0.0, l2=0.1), abs=1e-6)
    assert stepped("adam", 0.1) == pytest.approx(stepped("adam", 0.0, l2=0.1), abs=1e-5)
    assert stepped("adamw", 0.1) != pytest.approx(stepped("adamw", 0.0, l2=0.1), abs=1e-3)


def test_no_penalty_changes_no_bit() -> None:
    assert stepped("adam", 0.0, 0.0, 0.0) == stepped("adam", 0.0, added=True)


def names_of_decayed(net: nn.Module) -> set[str]:
    found = {id(parameter) for parameter in decayed(net)}
    return {name for name, parameter in net.named_parameters() if id(parameter) in found}


@pytest.mark.parametrize("model", ["convnext_tiny", "swin_t", "swin_v2_t", "mobilenet_v3_small"])
def test_of_torchvisions_networks_the_weights_of_layers_decay_and_nothing_else(model: str) -> None:
    """Neither ConvNeXt's scales of layers (C, 1, 1) nor Swin's position biases and scales of logits."""
    with torch.device("meta"):
        net = get_model(model, weights=None)
    layers = (nn.Linear, nn.Conv2d)
    expected = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, layers)}
    assert names_of_decayed(net) == expected


def test_of_a_transformer_attention_and_places_decay_too() -> None:
    with torch.device("meta"):
        net = get_model("vit_b_16", weights=None)
    layers = {f"{name}.weight" for name, each in net.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)}
    attention = {f"encoder.layers.encoder_layer_{n}.self_attention.in_proj_weight" for n in range(12)}
    assert names_of_decayed(net) == layers | attention | {"encoder.pos_embedding"}


@pytest.mark.parametrize(
    "model", ["convnext_tiny", "efficientnet_b0", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_timms_networks_decay_as_timm_groups_them_also_within_another(model: str) -> None:
    with torch.device("meta"):
        net = timm.create_model(model)
    spared: Any = getattr(net, "no_weight_decay", set)()
    groups = param_groups_weight_decay(net, 0.1, no_weight_decay_list=spared)
    theirs = {id(each) for group in groups if group["weight_decay"] for each in group["params"]}
    expected = {name for name, each in net.named_parameters() if id(each) in theirs}
    assert names_of_decayed(net) == expected
    assert names_of_decayed(nn.Sequential(nn.Identity(), net)) == {f"1.{name}" for name in names_of_decayed(net)}


def test_shapes_do_not_make_a_matrix_of_a_scale_or_a_vector_of_a_weight() -> None:
    thin, norm = nn.Linear(1, 3), nn.LayerNorm((4, 5))
    scale, table = nn.Parameter(torch.ones(3, 1, 1)), nn.Parameter(torch.ones(3, 2))
    net = nn.ModuleDict({"thin": thin, "norm": norm, "own": nn.ParameterDict({"scale": scale, "table": table})})
    assert names_of_decayed(net) == {"thin.weight", "own.table"}
