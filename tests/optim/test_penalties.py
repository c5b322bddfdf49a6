"""Penalties on weights against autograd, and against weight decay."""

import pytest
import torch
from torch import nn

from saccade.optim import build_optimizer, penalized, penalty


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5))


def stepped(name: str, weight_decay: float, l1: float = 0.0, l2: float = 0.0, *, added: bool = False) -> list[float]:
    """Return the weights after two steps, the penalty `added` to the loss or put in by its gradient."""
    net = network()
    optimizer = build_optimizer(name, net, 0.05, weight_decay)
    if not added:
        optimizer = penalized(optimizer, l1, l2)
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
