"""Where boxes and lines go: a layered drawing (Sugiyama, Tagawa and Toda, 1981) of a directed acyclic graph."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Key = Hashable
Link = tuple[Key, Key]

SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Centres of boxes, and the points that each link passes, both as (along the flow, across it); and the extent."""

    centres: dict[Key, tuple[float, float]]
    routes: dict[int, list[tuple[float, float]]]
    length: float
    breadth: float


def layered(
    sizes: Mapping[Key, tuple[float, float]], links: Sequence[Link], *, gap: float = 18.0, step: float = 26.0
) -> Layout:
    """Place boxes of sizes (along the flow, across it) so that every link goes forward.

    Boxes get a layer each by the longest path, long links a bend in every layer between; layers are ordered
    by the barycentres of their neighbours, and boxes drawn towards the middle of these without overlap.
    Boxes across the flow are `gap` apart, layers `step`. The graph must be acyclic.

    >>> layout = layered({"a": (10, 10), "b": (10, 10)}, [("a", "b")])
    >>> layout.centres["b"][0] - layout.centres["a"][0]
    36.0
    """
    layer = _layers(list(sizes), links)
    boxes, segments, chains = _with_bends(dict(sizes), links, layer)
    rows: list[list[Key]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for key in boxes:
        rows[layer[key]].append(key)
    before, after = _neighbours(boxes, segments)
    _order(rows, before, after)
    across = _across(rows, boxes, before, after, gap)
    along, length = _along(rows, boxes, step)
    low = min((across[key] - size[1] / 2 for key, size in boxes.items()), default=0.0)
    high = max((across[key] + size[1] / 2 for key, size in boxes.items()), default=0.0)
    points = {key: (along[layer[key]], across[key] - low) for key in boxes}
    routes = {number: [points[key] for key in chain] for number, chain in chains.items()}
    return Layout({key: points[key] for key in sizes}, routes, length, high - low)


def _layers(keys: Sequence[Key], links: Sequence[Link]) -> dict[Key, int]:
    """Return each box's layer: after all that lead to it, and as near as that allows to what it leads to."""
    incoming: dict[Key, list[Key]] = {key: [] for key in keys}
    outgoing: dict[Key, list[Key]] = {key: [] for key in keys}
    for source, target in links:
        incoming[target].append(source)
        outgoing[source].append(target)
    order, waiting = list[Key](), {key: len(incoming[key]) for key in keys}
    ready = [key for key in keys if not waiting[key]]
    while ready:
        key = ready.pop(0)
        order.append(key)
        for target in outgoing[key]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    layer: dict[Key, int] = {}
    for key in order:
        layer[key] = max((layer[source] + 1 for source in incoming[key]), default=0)
    for key in reversed(order):  # what nothing leads to moves up to where it is used
        if outgoing[key] and not incoming[key]:
            layer[key] = min(layer[target] for target in outgoing[key]) - 1
    return layer


def _with_bends(
    boxes: dict[Key, tuple[float, float]], links: Sequence[Link], layer: dict[Key, int]
) -> tuple[dict[Key, tuple[float, float]], list[Link], dict[int, list[Key]]]:
    """Return boxes and links with a bend wherever a link crosses a layer, and the way of each link."""
    segments, chains = list[Link](), dict[int, list[Key]]()
    for number, (source, target) in enumerate(links):
        chain: list[Key] = [source]
        for place in range(layer[source] + 1, layer[target]):
            bend = ("bend", number, place)
            boxes[bend], layer[bend] = (0.0, 0.0), place
            chain.append(bend)
        chains[number] = [*chain, target]
        segments += pairwise(chains[number])
    return boxes, segments, chains


def _neighbours(keys: Mapping[Key, object], links: Sequence[Link]) -> tuple[dict[Key, list[Key]], dict[Key, list[Key]]]:
    before: dict[Key, list[Key]] = {key: [] for key in keys}
    after: dict[Key, list[Key]] = {key: [] for key in keys}
    for source, target in links:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _order(rows: list[list[Key]], before: dict[Key, list[Key]], after: dict[Key, list[Key]]) -> None:
    """Order each layer by the barycentres of its neighbours, and keep the order with the fewest crossings."""
    best, fewest = [list(row) for row in rows], _crossings(rows, after)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        neighbours = before if down else after
        place = {key: float(number) for row in rows for number, key in enumerate(row)}
        for row in rows if down else reversed(rows):
            weight = {key: _mean([place[other] for other in neighbours[key]], place[key]) for key in row}
            row.sort(key=weight.__getitem__)
            place.update((key, float(number)) for number, key in enumerate(row))
        crossings = _crossings(rows, after)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, kept in zip(rows, best, strict=True):
        row[:] = kept


def _crossings(rows: list[list[Key]], after: dict[Key, list[Key]]) -> int:
    total = 0
    for above, below in pairwise(rows):
        place = {key: number for number, key in enumerate(below)}
        ends = [end for key in above for end in sorted(place[other] for other in after[key])]
        total += sum(a > b for number, b in enumerate(ends) for a in ends[:number])
    return total


def _across(
    rows: list[list[Key]],
    boxes: Mapping[Key, tuple[float, float]],
    before: dict[Key, list[Key]],
    after: dict[Key, list[Key]],
    gap: float,
) -> dict[Key, float]:
    """Return each box's place across the flow: near the mean of its neighbours, no two overlapping."""
    across: dict[Key, float] = {}
    for row in rows:
        place = 0.0
        for key in row:
            across[key] = place + boxes[key][1] / 2
            place += boxes[key][1] + gap
    for sweep in range(2 * SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            near = before if down else after
            wanted = [_mean([across[other] for other in near[key]], across[key]) for key in row]
            sizes = [boxes[key][1] for key in row]
            across.update(zip(row, separated(wanted, sizes, gap), strict=True))
    return across


def separated(wanted: Sequence[float], sizes: Sequence[float], gap: float) -> list[float]:
    """Return centres in the given order, `gap` apart, with the least sum of squared distances from `wanted`.

    Without the boxes' own extents it is an isotonic regression, solved by pooling neighbours that collide.

    >>> separated([0.0, 0.0], [2.0, 2.0], 1.0)
    [-1.5, 1.5]
    """
    offsets, place = list[float](), 0.0
    for number, size in enumerate(sizes):
        place += (sizes[number - 1] + size) / 2 + gap if number else 0.0
        offsets.append(place)
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, count = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            other, others = pools.pop()
            total, count = total + other, count + others
        pools.append((total, count))
    means = [total / count for total, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _along(rows: list[list[Key]], boxes: Mapping[Key, tuple[float, float]], step: float) -> tuple[list[float], float]:
    centres, place = list[float](), 0.0
    for row in rows:
        thick = max((boxes[key][0] for key in row), default=0.0)
        centres.append(place + thick / 2)
        place += thick + step
    return centres, max(0.0, place - step)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
