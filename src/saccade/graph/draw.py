"""A view as a picture: SVG with values and gradients on every line, readable without colour, told in words too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from saccade.graph.layout import Layout, Point, layered
from saccade.graph.view import Arrow, Box, View, gradient_text, value_text
from saccade.palette import PALETTE, text_width
from saccade.words import px

FONT = 13.0
SMALL_FONT = 11.0
MARGIN = 14.0
LINE = 15.0

MARKER = "made by saccade graph"
"""Stands in every file that is written, so that an older one may be replaced."""


@dataclass(frozen=True)
class _Label:
    """What stands on one arrow: lines of the value on one side of it, of the gradient on the other."""

    value: list[str]
    gradient: list[str]

    def size(self, down: bool) -> Point:
        """Return width and height, the line running through the middle."""
        wide = max((text_width(line, SMALL_FONT) for line in (*self.value, *self.gradient)), default=0.0) + 16
        rows = max(len(self.value), len(self.gradient))
        return (2 * wide, LINE * max(rows, 1) + 4) if down else (wide + 6, 2 * LINE * max(rows, 1) + 4)


def svg(view: View, description: str, *, down: bool, network: bool) -> str:
    """Return a view as an `<svg>` element, flowing to the right or `down`.

    Values stand above a line (left of it, where it goes down) in blue and upright; gradients below (right of
    it) in orange and slanted. Boxes and lines have titles with all that is known of them.
    """
    labels = [
        _Label(value_text(arrow.wire, network=network), gradient_text(arrow.gradient, network=network))
        for arrow in view.arrows
    ]
    sizes: dict[object, Point] = {box: _size(box) for box in view.boxes}
    sizes |= {place: label.size(down) for place, label in enumerate(labels)}
    links: list[tuple[object, object]] = []
    for place, arrow in enumerate(view.arrows):
        links += [(arrow.source, place), (place, arrow.target)]
    frames = {name: [*boxes, *_within(view, boxes)] for name, boxes in view.frames.items()}
    layout = layered(sizes, links, frames, down=down, step=12.0 if down else 28.0)
    painter = _Painter(view, layout, sizes, down)
    parts = [*painter.frames(), *painter.lines(labels), *painter.boxes()]
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    said = escape(description)
    return (
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {px(width)} {px(height)}" '
        f'width="{px(width)}" height="{px(height)}" role="img" aria-label="{said}">'
        f"<title>{escape(view.title or 'graph')}</title><desc>{said}</desc>{''.join(parts)}</svg>"
    )


def standalone(picture: str) -> str:
    """Return an `<svg>` element as a file of its own, with its colours for light and dark."""
    head, _, rest = picture.partition(">")
    return f"<?xml version='1.0' encoding='UTF-8'?>\n<!-- {MARKER} -->\n{head}><style>{style()}</style>{rest}\n"


def style() -> str:
    """Return the style sheet of pictures."""
    light = "".join(f"--{name}:{colours[0]};" for name, colours in PALETTE.items())
    dark = "".join(f"--{name}:{colours[1]};" for name, colours in PALETTE.items())
    return (
        f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        ".graph{background:var(--paper);font-family:system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
        f".graph text{{font-size:{FONT}px;fill:var(--ink);text-anchor:middle}}"
        f".graph .s{{font-size:{SMALL_FONT}px;fill:var(--quiet)}}"
        f".graph .v{{font-size:{SMALL_FONT}px;fill:var(--right)}}"
        f".graph .g{{font-size:{SMALL_FONT}px;fill:var(--wrong);font-style:italic}}"
        ".graph .b{fill:var(--card);stroke:var(--quiet);stroke-width:1.2}.graph .leaf{stroke:var(--green)}"
        ".graph .end{stroke:var(--right);stroke-width:1.8}.graph .copy{fill:var(--quiet)}.graph .open{stroke-width:2}"
        ".graph .marked{stroke:var(--wrong);stroke-width:2.4;stroke-dasharray:5 3}"
        ".graph .m{font-size:11px;fill:var(--wrong);font-weight:600}"
        ".graph path{fill:none;stroke:var(--quiet);stroke-width:1.3}.graph .none{stroke-dasharray:2 4}"
        ".graph .frame{fill:none;stroke:var(--line);stroke-width:1.5}"
        ".graph .f{font-size:11px;fill:var(--quiet);text-anchor:start}"
        ".graph [data-open]{cursor:pointer}.graph [data-open]:hover .b,.graph [data-open]:focus .b{stroke:var(--right)}"
        ".graph .chosen .b{stroke:var(--right);stroke-width:3}"
    )


class _Painter:
    """Turns what has its place into SVG."""

    def __init__(self, view: View, layout: Layout, sizes: dict[object, Point], down: bool) -> None:
        self._view = view
        self._layout = layout
        self._sizes = sizes
        self._down = down

    def boxes(self) -> list[str]:
        """Return every box with its words."""
        return [self._box(box) for box in self._view.boxes]

    def frames(self) -> list[str]:
        """Return a frame, with its name, around each group that stands opened, and around what flows inside it."""
        return [
            f'<rect class="frame" x="{px(left + MARGIN)}" y="{px(top + MARGIN)}" width="{px(right - left)}" '
            f'height="{px(bottom - top)}" rx="10"/>'
            f'<text class="f" x="{px(left + MARGIN + 8)}" y="{px(top + MARGIN + 13)}">{escape(name)}</text>'
            for name, (left, top, right, bottom) in self._layout.frames.items()
        ]

    def lines(self, labels: Sequence[_Label]) -> list[str]:
        """Return every arrow with what flows along it."""
        return [self._line(place, arrow, labels[place]) for place, arrow in enumerate(self._view.arrows)]

    def _line(self, place: int, arrow: Arrow, label: _Label) -> str:
        before, after = self._layout.routes[2 * place], self._layout.routes[2 * place + 1]
        kind = "" if arrow.gradient is not None else ' class="none"'
        way = f"M{_curve(before)}L{_curve(after)}"  # straight past the numbers
        path = f'<path{kind} d="{way}"/>{_head(*after[-2:])}'
        return f"<g><title>{escape(arrow.detail)}</title>{path}{self._words(place, label)}</g>"

    def _words(self, place: int, label: _Label) -> str:
        x, y = _inside(self._layout.centres[place])
        parts = []
        for kind, lines in (("v", label.value), ("g", label.gradient)):
            for number, line in enumerate(lines):
                if self._down:
                    anchor, side = ("end", x - 7) if kind == "v" else ("start", x + 7)
                    at, style = (side, y + 4 + LINE * (number - (len(lines) - 1) / 2)), f' style="text-anchor:{anchor}"'
                else:
                    above = y - 5 - LINE * (len(lines) - 1 - number)
                    at, style = (x, above if kind == "v" else y + 13 + LINE * number), ""
                parts.append(f'<text class="{kind}" x="{px(at[0])}" y="{px(at[1])}"{style}>{escape(line)}</text>')
        return "".join(parts)

    def _box(self, box: Box) -> str:
        (x, y), (w, h) = _inside(self._layout.centres[box]), self._sizes[box]
        title = f"<title>{escape(box.detail or box.title)}</title>"
        if box.kind == "copy":
            return f'<g>{title}<circle class="copy" cx="{px(x)}" cy="{px(y)}" r="4"/></g>'
        kinds = f"b {box.kind}{' open' if box.opens else ''}{' marked' if box.mark else ''}"
        radius = 8 if box.kind in ("group", "end") else h / 2
        rows = [("", box.title)] + ([("s", box.subtitle)] if box.subtitle else [])
        rows += [("m", box.mark.text)] if box.mark else []
        words = "".join(
            f'<text{f" class={chr(34)}{kind}{chr(34)}" if kind else ""} x="{px(x)}" '
            f'y="{px(y + 4.5 + 15 * (number - (len(rows) - 1) / 2))}">{escape(_cut(line))}</text>'
            for number, (kind, line) in enumerate(rows)
        )
        path = escape(".".join(box.opens or ()))
        opens = f' data-open="{path}" tabindex="0" role="button" aria-label="unfold {path}"' if box.opens else ""
        rect = f'x="{px(x - w / 2)}" y="{px(y - h / 2)}" width="{px(w)}" height="{px(h)}" rx="{px(radius)}"'
        return f'<g{opens}>{title}<rect class="{kinds}" {rect}/>{words}</g>'


def _within(view: View, boxes: Sequence[Box]) -> list[int]:
    """Return the places of the arrows that lead from one of these boxes to another."""
    return [place for place, arrow in enumerate(view.arrows) if {arrow.source, arrow.target} <= {*boxes}]


def _curve(points: Sequence[Point]) -> str:
    """Return Bézier curves, from the first point on, as part of a path; a straight line where they are one."""
    first, *others = (_pair(point) for point in points)
    straight = len({round(x) for x, _ in points}) == 1 or len({round(y) for _, y in points}) == 1
    return f"{first}L{others[-1]}" if straight else f"{first}C{' '.join(others)}"


def _head(before: Point, end: Point) -> str:
    """Return the head of an arrow that arrives from one point at another."""
    (a, b), (x, y) = before, end
    long = math.hypot(x - a, y - b) or 1.0
    u, v = (x - a) / long, (y - b) / long
    corners = [end, (x - 7 * u - 3.5 * v, y - 7 * v + 3.5 * u), (x - 7 * u + 3.5 * v, y - 7 * v - 3.5 * u)]
    return f'<path style="fill:var(--quiet);stroke:none" d="M{"L".join(map(_pair, corners))}Z"/>'


def _inside(place: Point) -> Point:
    return place[0] + MARGIN, place[1] + MARGIN


def _pair(place: Point) -> str:
    x, y = _inside(place)
    return f"{px(x)} {px(y)}"


def describe(view: View) -> str:
    """Return a picture in words, for those who cannot see it."""
    told = [
        f"{_named(arrow.source)} to {_named(arrow.target)}: value {', '.join(value_text(arrow.wire, network=False))}, "
        f"gradient {', '.join(gradient_text(arrow.gradient, network=False)) or 'none'}"
        for arrow in view.arrows[:40]
    ]
    more = f"; and {len(view.arrows) - 40} more lines" if len(view.arrows) > 40 else ""
    return f"Computational graph with {len(view.boxes)} boxes. {'; '.join(told)}{more}."


def _named(box: Box) -> str:
    return box.title if box.kind != "copy" else "a copy"


def _size(box: Box) -> Point:
    """Return a box's width and height."""
    if box.kind == "copy":
        return 8.0, 8.0
    mark = box.mark.text if box.mark else ""
    wide = max(
        text_width(_cut(box.title), FONT), text_width(_cut(box.subtitle), SMALL_FONT), text_width(_cut(mark), 11.6)
    )
    return max(38.0, wide + 20), 30.0 + (14 if box.subtitle else 0) + (15 if mark else 0)


def _cut(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
