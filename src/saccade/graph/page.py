"""A graph as files: one self-contained HTML page whose boxes unfold, or one SVG picture."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from saccade.graph.draw import MARKER, describe, standalone, style, svg
from saccade.graph.flow import Mark, Verdict, mark_of, marks
from saccade.graph.patterns import copies, role, symbol
from saccade.graph.records import Graph, Operation, upstream_times_local
from saccade.graph.view import Group, Path, groups, tree, view
from saccade.graph.words import mention, number, shape, told

MOST_BOXES = 150
"""Above this many boxes a picture helps nobody; a network that is one flat function is told in the table alone."""


def picture(graph: Graph, *, unfold: Collection[str] = ()) -> str:
    """Return the graph as an SVG file, folded; groups named in `unfold` ("layer2", or "all") stand opened in it.

    So do those that they lie in.
    """
    whole = tree(graph)
    named = [group.path for group in groups(whole) if "all" in unfold or ".".join(group.path) in unfold]
    opened = {path[:depth] for path in named for depth in range(1, len(path) + 1)}
    down = is_network(graph)
    shown = view(graph, whole, marks(graph), opened)
    return standalone(svg(shown, describe(shown), down=down, network=down))


def page(graph: Graph, title: str, verdict: Verdict | None = None) -> str:
    """Return the graph as an HTML page: no file but itself, every group a picture that a click unfolds."""
    down, found = is_network(graph), marks(graph)
    environment = Environment(
        loader=PackageLoader("saccade.graph"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        title=title,
        marker=MARKER,
        style=Markup(style()),
        state=verdict.state if verdict else "",
        sentences=verdict.sentences if verdict else (),
        notes=graph.notes,
        down=down,
        verified=verified(graph),
        pictures=[_picture(graph, group, found, down) for group in groups(tree(graph))],
        rows=list(rows(graph)),
    )


def folded_names(graph: Graph) -> list[str]:
    """Return the names by which groups can be unfolded."""
    return [".".join(group.path) for group in groups(tree(graph)) if group.path]


def is_network(graph: Graph) -> bool:
    """Return whether a graph is drawn as a network, folded by module and downwards."""
    return bool(graph.modules) or len(graph.steps) > 40


def verified(graph: Graph) -> str:
    """Return in one sentence how well upstream × local = downstream holds; of a network, nothing is small enough."""
    seen = graph.verified
    if not seen.edges or graph.modules:
        return ""
    edges = "1 edge" if seen.edges == 1 else f"{seen.edges} edges"
    return f"Upstream × local = downstream holds on {edges} (largest relative error {number(seen.worst)})."


def rows(graph: Graph) -> Iterator[dict[str, str]]:
    """Yield each step as a row in words: what it computes, its value, its gradient, what it passes back."""
    for step in graph.steps:
        for place, output in enumerate(step.outputs):
            yield {
                "step": formula(step) if not place else "",
                "module": ".".join(step.module),
                "value": f"{told(output.value)} {_shape(output.value.shape)}".strip(),
                "gradient": told(output.gradient),
                "role": role(step) if not place else "",
                "back": "; ".join(chain(step)) if not place else "",
            }
            uses = graph.uses_of(output)
            if len(uses) > 1 and output.gradient is not None:
                yield dict.fromkeys(("step", "module", "value", "gradient", "back"), "") | {"role": copies(uses)}


def formula(step: Operation) -> str:
    """Return a step as a line of a tape: "#2 = #1 × z"."""
    left, sign = f"#{step.number + 1} = ", symbol(step)
    given = [mention(use.wire) for use in step.uses if use.wire.kind != "buffer"]
    if step.name in ("add", "sub", "mul", "div", "pow", "matmul") and len(given) == 2:
        return f"{left}{given[0]} {sign} {given[1]}"
    if len(given) == 1 and sign[-1:] in "−÷^" and step.name.startswith("r"):
        return f"{left}{sign} {given[0]}"
    if len(given) == 1 and sign[:1] in "+−×÷^[":
        return f"{left}{given[0]} {sign}"
    return f"{left}{sign}({', '.join(given)})"


def chain(step: Operation) -> Iterator[str]:
    """Yield for each input of a small operation how its gradient comes about: "x ← −4 × 1 = −4"."""
    upstream = next((wire.gradient for wire in step.outputs if wire.gradient is not None), None)
    for use in step.uses:
        if use.gradient is None:
            continue
        local = use.local.get(0)
        name = mention(use.wire)
        if local is None or upstream is None or local.numel() > 1 or upstream_times_local(use) is None:
            yield f"{name} ← {told(use.gradient)}"
        else:
            yield f"{name} ← {told(upstream)} × {number(float(local))} = {told(use.gradient)}"


def _picture(graph: Graph, group: Group, found: Mapping[Operation, Mark], down: bool) -> dict[str, Any]:
    shown = view(graph, group, found)
    path: Path = group.path
    if len(shown.boxes) > MOST_BOXES:
        drawn = Markup("<p>{} boxes are too many for a picture; the table below has them.</p>").format(len(shown.boxes))
    else:
        drawn = Markup(svg(shown, describe(shown), down=down, network=down))  # every text in it is escaped
    return {"path": ".".join(path), "svg": drawn}


def _shape(sides: tuple[int, ...]) -> str:
    return f"({shape(sides)})" if sides else ""


def network_rows(graph: Graph) -> list[dict[str, str]]:
    """Return the outermost groups of a network as rows in words: shapes, spread, gradients, what is marked."""
    found = marks(graph)
    table = []
    for item in tree(graph).items:
        steps = item.steps if isinstance(item, Group) else [item]
        output = next(wire for step in reversed(steps) for wire in step.outputs)
        worst = mark_of(steps, found)
        table.append(
            {
                "step": _named(graph, item) if isinstance(item, Group) else formula(item),
                "value": f"{shape(output.value.shape)} sd {number(output.value.sd)}".strip(),
                "gradient": "–" if output.gradient is None else f"norm {number(output.gradient.norm)}",
                "role": worst.text if worst else role(steps[0]) if len(steps) == 1 else "",
            }
        )
    return table


def _named(graph: Graph, group: Group) -> str:
    kind = graph.modules.get(group.path, "")
    return f"{group.label} {kind}" if kind and group.label[:1].isdigit() else group.label
