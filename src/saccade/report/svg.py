"""A matplotlib renderer for charts inside a page: small SVG, text that stays text, the page's own colours."""

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.path import Path as Curve
from matplotlib.transforms import Affine2D, Transform

from saccade.palette import LIGHT, text_width
from saccade.words import px

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
_ANCHORS = {"left": "start", "center": "middle", "right": "end"}
_LETTERS = {Curve.MOVETO: "M", Curve.LINETO: "L", Curve.CURVE3: "Q", Curve.CURVE4: "C"}


def to_svg(figure: "Figure", description: str) -> Markup:
    """Return `figure` as an `<svg>` element, described to screen readers by `description`.

    Colours of the report's palette become CSS variables, so a chart follows the page into dark
    mode; no ids are used, so any number of charts can stand in one page; the bytes depend on the
    figure alone, and matplotlib's global settings are left alone, so that any thread may draw.
    """
    width, height = (float(side) for side in figure.bbox.size)
    renderer = InlineRenderer(width, height)
    figure.draw(renderer)
    # Grown by a quarter at the most, so that letters stay near the size of the page's.
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" style="max-width:{}px" role="img" aria-label="{}">{}</svg>'
    ).format(px(width), px(height), px(1.25 * width), description, Markup("".join(renderer.parts)))


class InlineRenderer(RendererBase):
    """Collects SVG elements in `parts`; fonts are never opened, so no glyph can be missing."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__()
        self.width = width
        self.height = height
        self.parts: list[str] = []

    def get_canvas_width_height(self) -> tuple[float, float]:
        """Return the size in points, which are the units of the drawing."""
        return self.width, self.height

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        """Return an estimate: the reader's font is not known here."""
        size = prop.get_size_in_points()
        return text_width(s, size), 0.95 * size, 0.22 * size

    def draw_path(
        self,
        gc: GraphicsContextBase,
        path: Curve,
        transform: Transform,
        rgbFace: Any = None,
    ) -> None:
        """Add one path."""
        flipped = transform + Affine2D().scale(1, -1).translate(0, self.height)
        data = "".join(
            "Z" if code == Curve.CLOSEPOLY else _LETTERS[code] + " ".join(map(px, points))
            for points, code in path.iter_segments(flipped, simplify=False)
        )
        style = _fill(gc, rgbFace) + _stroke(gc)
        if data and style:
            self.parts.append(f'<path d="{data}" style="{style}"/>')

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        *_: Any,
        mtext: Any = None,
        **__: Any,
    ) -> None:
        """Add one line of text, anchored where its artist asked for, so that any font fits."""
        anchor = "start"
        if mtext is not None:
            anchor = _ANCHORS[mtext.get_ha()]
            x, y = self._anchored(mtext, x, y, angle)
        style = f"fill:{_colour(gc.get_rgb())};font-size:{px(prop.get_size_in_points())}px"
        if prop.get_weight() == "bold":
            style += ";font-weight:600"
        turn = f' transform="rotate({px(-angle)} {px(x)} {px(y)})"' if angle else ""
        self.parts.append(
            f'<text x="{px(x)}" y="{px(y)}" text-anchor="{anchor}" style="{style}"{turn}>{escape(s)}</text>'
        )

    def draw_tex(
        self, gc: GraphicsContextBase, x: float, y: float, s: str, prop: Any, angle: float, *, mtext: Any = None
    ) -> None:
        """Add text as it is, even where matplotlib is told to use TeX everywhere."""
        self.draw_text(gc, x, y, s, prop, angle, mtext=mtext)

    def _anchored(self, mtext: Any, x: float, y: float, angle: float) -> tuple[float, float]:
        """Return the artist's own position, moved across the line of text to where its baseline lies."""
        anchor_x, anchor_y = mtext.get_transform().transform(mtext.get_unitless_position())
        anchor_y = self.height - anchor_y
        across = np.array([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
        offset = across @ (x - anchor_x, y - anchor_y)
        return float(anchor_x + offset * across[0]), float(anchor_y + offset * across[1])


def _fill(gc: GraphicsContextBase, face: Any) -> str:
    if face is None:
        return "fill:none;"
    alpha = gc.get_alpha() if gc.get_forced_alpha() else (face[3] if len(face) > 3 else 1.0)
    return f"fill:{_colour(face)};" + (f"fill-opacity:{alpha:.3g};" if alpha != 1 else "")


def _stroke(gc: GraphicsContextBase) -> str:
    width, alpha = gc.get_linewidth(), gc.get_rgb()[3]
    if width == 0 or alpha == 0:
        return ""
    style = f"stroke:{_colour(gc.get_rgb())};stroke-width:{px(width)};"
    _, dashes = gc.get_dashes()
    if dashes is not None:
        style += f"stroke-dasharray:{' '.join(px(float(length)) for length in np.ravel(dashes))};"
    return style + (f"stroke-opacity:{alpha:.3g};" if alpha != 1 else "")


def _colour(rgb: Any) -> str:
    colour = to_hex(rgb[:3])
    return _VARIABLES.get(colour, colour)
