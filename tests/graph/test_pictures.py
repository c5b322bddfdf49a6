"""What is drawn: layers without overlap, every number on its line, well-formed files that load nothing."""

import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Hashable

import pytest
import torch
from torch import nn

from saccade.graph import Graph, page, picture, trace, trace_expression
from saccade.graph.flow import marks
from saccade.graph.layout import layered
from saccade.graph.patterns import folds
from saccade.graph.view import Group, groups, tree, view

NEURON = "1/(1+exp(-(w0*x0+w1*x1+w2)))"
VALUES = {"w0": "2", "x0": "-1", "w1": "-3", "x1": "-2", "w2": "-3"}


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter() if element.tag.endswith("}text")]


@pytest.mark.parametrize("down", [True, False])
def test_links_go_forward_and_nothing_overlaps(down: bool) -> None:
    rng = random.Random(0)
    along = 1 if down else 0
    for _ in range(10):
        count = rng.randint(2, 14)
        sizes: dict[Hashable, tuple[float, float]] = {
            key: (rng.uniform(5, 40), rng.uniform(5, 40)) for key in range(count)
        }
        links = [(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < 0.3]
        layout = layered(sizes, links, down=down, gap=4, step=6)
        sides = {key: _sides(layout.centres[key], sizes[key]) for key in sizes}
        for (a, b), route in zip(links, layout.routes, strict=True):
            assert sides[a][2 + along] < sides[b][along]
            assert len(route) % 3 == 1
            assert route[0][along] == pytest.approx(sides[a][2 + along], abs=1.5)
            assert route[-1][along] == pytest.approx(sides[b][along], abs=1.5)
        for a in range(count):
            assert not any(_overlap(sides[a], sides[b]) for b in range(a))
            assert 0 <= sides[a][0] + 0.5 <= sides[a][2] <= layout.width + 0.5
            assert 0 <= sides[a][1] + 0.5 <= sides[a][3] <= layout.height + 0.5
        assert layered(sizes, links, down=down, gap=4, step=6) == layout


def test_frames_hold_their_boxes_and_no_others() -> None:
    sizes: dict[Hashable, tuple[float, float]] = dict.fromkeys("abcdef", (30.0, 20.0))
    links = [("a", "b"), ("b", "c"), ("b", "d"), ("c", "e"), ("d", "e"), ("a", "f"), ("f", "e")]
    frames = {"one.two": ["c", "d"], "one": ["b", "c", "d"]}
    layout = layered(sizes, links, frames)
    for name, inside in frames.items():
        for key, size in sizes.items():
            assert _overlap(layout.frames[name], _sides(layout.centres[key], size)) == (key in inside)
    outer, inner = layout.frames["one"], layout.frames["one.two"]
    assert (outer[0] < inner[0], outer[1] < inner[1]) == (True, True)
    assert (outer[2] > inner[2], outer[3] > inner[3]) == (True, True)


def _sides(centre: tuple[float, float], size: tuple[float, float]) -> tuple[float, float, float, float]:
    (x, y), (width, height) = centre, size
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(first[d] < second[d + 2] and second[d] < first[d + 2] for d in (0, 1))


def test_the_first_example_has_every_number_of_the_lecture() -> None:
    svg = picture(trace_expression("(x+y)*z", {"x": "-2", "y": "5", "z": "-4"}))
    for each in ("x", "y", "z", "+", "×", "−2", "5", "−4", "3", "−12", "1"):
        assert each in texts(svg)
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img"
    (described,) = [element for element in root if element.tag.endswith("}desc")]
    assert "+ to ×: value 3, gradient −4" in (described.text or "")


def test_a_sigmoid_is_folded_and_unfolded() -> None:
    graph = trace_expression(NEURON, VALUES)
    assert sorted({*folds(graph).values()}) == ["sigmoid"]
    assert len(folds(graph)) == 4
    assert "sigmoid" in texts(picture(graph))
    assert "exp" not in texts(picture(graph))
    opened = texts(picture(graph, unfold=["sigmoid"]))
    assert {"× −1", "exp", "+ 1", "1 ÷"} <= set(opened)


def test_a_shared_input_is_drawn_as_a_copy_whose_gradients_add() -> None:
    graph = trace_expression("x*x + exp(x)", {"x": "1"})
    shown = view(graph, tree(graph), marks(graph))
    (copy,) = [box for box in shown.boxes if box.kind == "copy"]
    (total,) = [arrow.gradient.mean for arrow in shown.arrows if arrow.target is copy and arrow.gradient]
    parts = [arrow.gradient.mean for arrow in shown.arrows if arrow.source is copy and arrow.gradient]
    assert len(parts) == 3
    assert total == pytest.approx(sum(parts))


@pytest.fixture(scope="module")
def network() -> Graph:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.norm(self.conv(x)).relu()
            return x + branch

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(Block(), Block()), nn.Flatten(), nn.Linear(256, 2))
    return trace(lambda x: model(x).square().sum(), torch.randn(2, 3, 8, 8))


def test_a_network_is_folded_by_module(network: Graph) -> None:
    whole = tree(network)
    labels = [item.label if isinstance(item, Group) else item.name for item in whole.items]
    assert labels == ["0", "1", "2", "3", "square", "sum"]
    assert [".".join(group.path) for group in groups(whole)] == ["", "1", "1.0", "1.1"]
    folded, opened = texts(picture(network)), texts(picture(network, unfold=["1"]))
    assert "Sequential" in folded
    assert "Block" not in folded
    assert opened.count("Block") == 2
    assert "2×4×8×8" in folded
    assert texts(picture(network, unfold=["1.0"])) == texts(picture(network, unfold=["1", "1.0"]))


def test_a_page_holds_a_picture_of_every_group_and_loads_nothing(network: Graph) -> None:
    html = page(network, "a <network>")
    assert re.findall(r'<section data-path="([^"]*)"', html) == ["", "1", "1.0", "1.1"]
    assert "a &lt;network&gt;" in html
    assert not re.search(r'(?:src|href)="|url\(|@import', html)
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(svg)


def test_names_are_escaped() -> None:
    graph = trace(lambda x: x * 2, 1.0)
    graph["x"].name = "<b>&"
    assert "<b>&" in texts(picture(graph))
