"""Where a gradient is lost is said, and where it is not, that is said too."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.graph import Graph, diagnose, trace
from saccade.graph.flow import marks

DEPTH = 20


def network(kind: str) -> nn.Sequential:
    """Return 20 layers of 64 units: sigmoids as PyTorch initialises them, or ReLU with He weights and batch norm."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(DEPTH - 1):
        linear = nn.Linear(64, 64)
        if kind == "sigmoid":
            layers += [linear, nn.Sigmoid()]
        else:
            nn.init.kaiming_normal_(linear.weight)
            layers += [linear, nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def traced(model: nn.Module, *, needs: bool = True) -> Graph:
    torch.manual_seed(1)
    x, labels = torch.randn(32, 64, requires_grad=needs), torch.arange(32) % 10
    return trace(lambda x: F.cross_entropy(model(x), labels), x)


@pytest.mark.parametrize("needs", [True, False])
def test_a_deep_sigmoid_network_loses_its_gradient_and_is_told_where(needs: bool) -> None:
    graph = traced(network("sigmoid"), needs=needs)
    verdict = diagnose(graph)
    assert verdict.state == "vanishes"
    last, first = graph["38.weight"].uses[0].operation, graph["0.weight"].uses[0].operation
    expected = first.outputs[0].gradient.norm / last.outputs[0].gradient.norm  # type: ignore[union-attr]
    assert verdict.factor == pytest.approx(expected, rel=1e-6)
    assert verdict.factor < 1e-10
    assert "from the last layer, 38 (Linear), to the first, 0 (Linear), over 20 layers" in verdict.sentences[0]
    norms = [graph[f"{2 * place}.weight"].uses[0].operation.outputs[0].gradient.norm for place in range(DEPTH)]  # type: ignore[union-attr]
    where = max(place for place in range(DEPTH) if norms[place] < norms[-1] / 1000)
    assert verdict.sentences[1].startswith(f"At {2 * where} (Linear) less than a thousandth is left")
    assert "The 19 × sigmoid take most of it" in verdict.sentences[2]
    starved = {step.module for step, mark in marks(graph).items() if mark.word == "starved"}
    assert starved == {(str(2 * place),) for place in range(where + 1)}


def test_the_same_with_relu_he_and_batch_norm_is_healthy() -> None:
    graph = traced(network("relu"))
    verdict = diagnose(graph)
    assert verdict.state == "healthy"
    assert "it survives, the graph is healthy" in verdict.sentences[0]
    assert marks(graph) == {}


def test_an_exploding_gradient() -> None:
    model = network("relu")
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.0)
    model = nn.Sequential(*(layer for layer in model if not isinstance(layer, nn.BatchNorm1d)))
    verdict = diagnose(traced(model))
    assert verdict.state == "explodes"
    assert "it has grown more than a thousandfold" in verdict.sentences[1]
    assert "linear add most of it" in verdict.sentences[2]


def test_a_dead_layer_blocks() -> None:
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10))
    nn.init.constant_(model[2].bias, -100.0)  # type: ignore[arg-type]
    graph = traced(model)
    verdict = diagnose(graph)
    assert verdict.state == "blocked"
    assert "it stops at 3 (ReLU) (relu)" in verdict.sentences[0]


def test_one_step_that_loses_much_is_marked_and_an_average_is_not() -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.last((self.first(x) * 1e-3).mean((2, 3)))
            return scores

    torch.manual_seed(0)
    model = Narrow()
    graph = trace(lambda x: model(x).square().sum(), torch.randn(2, 3, 50, 50, requires_grad=True))
    found = {step.name: mark.word for step, mark in marks(graph).items()}
    assert found["mul"] == "vanishes"
    assert "mean" not in found


def test_a_residual_network_is_healthy_and_its_starved_branches_are_named() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = nn.Linear(64, 64), nn.Parameter(torch.full((64,), 1e-6))

        def forward(self, x: Tensor) -> Tensor:
            branch: Tensor = self.inner(x) * self.scale.reshape(1, -1)
            return x + branch

    model = nn.Sequential(nn.Linear(64, 64), Block(), Block(), nn.Linear(64, 10))
    verdict = diagnose(traced(model))
    assert verdict.state == "healthy"
    assert "2 layers in side branches (1.inner, 2.inner) get less than a thousandth of it" in verdict.sentences[1]
    assert "closed by a scale of about zero, at 2 places in all (1 (Block), 2 (Block))" in verdict.sentences[2]


def test_a_closed_branch_is_no_fault_and_a_constant_that_the_next_layer_makes_up_for_neither() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32)
            self.last = nn.Linear(32, 10)
            nn.init.zeros_(self.norm.weight)
            with torch.no_grad():
                self.last.weight *= 100

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.last(x + self.norm(self.first(x))) / 100
            return scores

    graph = traced(nn.Sequential(nn.Linear(64, 32), Branch()))
    verdict = diagnose(graph)
    assert verdict.state == "healthy"
    assert "1 layer in side branches (1.first) gets no gradient" in verdict.sentences[1]
    assert "at 1 place in all (1.norm)" in verdict.sentences[2]
    assert marks(graph) == {}


def test_a_graph_of_one_layer_has_nothing_to_lose() -> None:
    assert diagnose(trace(lambda x: x * 2, 1.0)).state == "healthy"
