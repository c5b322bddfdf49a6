"""Where boxes and lines go: a layered drawing by Graphviz's dot (Gansner, Koutsofios, North and Vo, 1993)."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Key = Hashable
Link = tuple[Key, Key]
Point = tuple[float, float]

INCH = 72
"""Points to the inch, in which dot takes sizes; places it gives in points."""
STRAIGHT = 8
"""How many times dearer a bend is in a chain, where nothing joins or leaves, than elsewhere."""
ROOM = 17.0
"""How far a frame stands off what it frames, for its name."""


@dataclass(frozen=True)
class Layout:
    """Where everything is, x to the right and y down.

    `centres` are the boxes', `routes` the control points (3n + 1) of each link's Bézier curves, `frames` the left,
    upper, right and lower sides of each.
    """

    centres: dict[Key, Point]
    routes: list[list[Point]]
    frames: dict[str, tuple[float, float, float, float]]
    width: float
    height: float


def layered(
    sizes: Mapping[Key, Point],
    links: Sequence[Link],
    frames: Mapping[str, Collection[Key]] | None = None,
    *,
    down: bool = True,
    gap: float = 14.0,
    step: float = 14.0,
) -> Layout:
    """Place boxes of sizes (width, height) so that every link goes down, or to the right.

    Boxes of a layer are `gap` apart, layers `step`. `frames` are boxes to be drawn together, by name; one called
    "a.b" lies inside "a". The same boxes and links in the same order give the same layout.

    >>> layout = layered({"a": (10, 20), "b": (10, 20)}, [("a", "b")])
    >>> round(layout.centres["b"][1] - layout.centres["a"][1]), round(layout.width), round(layout.height)
    (34, 10, 54)
    """
    from pygraphviz import AGraph

    graph = AGraph(directed=True, strict=False)
    graph.graph_attr.update(rankdir="TB" if down else "LR", nodesep=gap / INCH, ranksep=step / INCH)
    # No text is left to dot, for it would be measured in fonts that differ from machine to machine.
    graph.node_attr.update(shape="box", fixedsize="true", label="")
    leave, enter = ("s", "n") if down else ("e", "w")
    graph.edge_attr.update(arrowhead="none", tailport=leave, headport=enter)
    place = {key: f"n{number}" for number, key in enumerate(sizes)}
    for key, (width, height) in sizes.items():
        graph.add_node(place[key], width=f"{width / INCH:.4f}", height=f"{height / INCH:.4f}")
    out, into = Counter(source for source, _ in links), Counter(target for _, target in links)
    for number, (source, target) in enumerate(links):
        weight = STRAIGHT if out[source] == into[target] == 1 else 1
        graph.add_edge(place[source], place[target], key=str(number), weight=weight)
    clusters: dict[str, Any] = {}
    for name, keys in sorted((frames or {}).items(), key=lambda frame: frame[0].count(".")):
        around = max((other for other in clusters if name.startswith(f"{other}.")), key=len, default=None)
        inside = graph if around is None else clusters[around]
        clusters[name] = inside.add_subgraph(
            [place[key] for key in keys], name=f"cluster{len(clusters)}", margin=str(ROOM)
        )
    graph.layout(prog="dot")
    left, low, right, high = _numbers(graph.graph_attr["bb"])

    def point(text: str) -> Point:
        x, y = _numbers(text)
        return x - left, high - y

    boxes = {
        name: (a - left, high - d, c - left, high - b)
        for name, cluster in clusters.items()
        for a, b, c, d in [_numbers(cluster.graph_attr["bb"])]
    }
    return Layout(
        {key: point(graph.get_node(node).attr["pos"]) for key, node in place.items()},
        [
            [point(each) for each in graph.get_edge(place[a], place[b], key=str(number)).attr["pos"].split()]
            for number, (a, b) in enumerate(links)
        ],
        boxes,
        right - left,
        high - low,
    )


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]
