"""The charts: what is drawn is the data, whatever the names, the threads and matplotlib's global settings."""

import re
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from saccade.report import charts, pictures
from tests.report import runs


def texts(svg: str) -> list[str]:
    return [(element.text or "").replace("\xa0", " ") for element in ET.fromstring(svg).iter("text")]


def rows() -> list[dict[str, object]]:
    names = ("convnet", "$\\frac{1}{2}$", "🦊 <b>&", "x" * 255)
    return [
        {
            "name": name,
            "accuracy": 0.2 * place + 0.1,
            "interval": [0.1, 0.9],
            "kind": "chosen" if place == 0 else "other",
        }
        for place, name in enumerate(names)
    ]


def test_bars_are_as_long_as_their_numbers() -> None:
    svg = charts.bars(rows())
    assert texts(svg)[1::2] == ["10.0 %", "30.0 %", "50.0 %", "70.0 %"]
    widths = []
    for path in ET.fromstring(svg).iter("path"):
        if "var(--quiet)" in path.attrib["style"] or "var(--right)" in path.attrib["style"]:
            x = [float(pair.split()[0]) for pair in re.findall(r"[ML]([^MLZ]+)", path.attrib["d"])]
            widths.append(max(x) - min(x))
    assert np.array(widths) / widths[0] == pytest.approx([1, 3, 5, 7], rel=0.01)


def test_names_are_texts_and_never_formulas_or_tags() -> None:
    shown = texts(charts.bars(rows()))
    assert shown[2] == "$\\frac{1}{2}$"
    assert shown[4] == "🦊 <b>&"
    assert len(shown[6]) == 52
    assert set(shown[6]) == {"x", "…"}


def test_a_confusion_matrix_shows_every_count() -> None:
    counts_KK = runs.confusion(24, images=5000, accuracy=0.9, seed=0)
    shown = texts(charts.confusion(counts_KK, [f"class {k}" for k in range(24)]))
    assert sorted(text for text in shown if not text.startswith("class")) == sorted(
        f"{count:,}" for count in counts_KK.flat if count
    )


def test_the_heat_map_of_two_hundred_classes_has_a_pixel_a_cell() -> None:
    picture = pictures.heat(runs.confusion(200, images=50, accuracy=0.6, seed=0))
    assert (picture.width, picture.height) == (200, 200)
    assert len(picture.url) < 60_000


@pytest.mark.parametrize("kind", ["number", "percent", "log"])
def test_lines_survive_constant_values_and_single_points(kind: str) -> None:
    for points in ([(1.0, 0.5)], [(0.0, 1.0), (2.0, 1.0)]):
        svg = charts.lines([("right", "marked", points)], description="d", axis="step", end=2.0, kind=kind)
        assert "nan" not in svg
        assert "step" in texts(svg)


def test_charts_neither_read_nor_change_global_settings() -> None:
    before = charts.bars(rows())
    saved = dict(mpl.rcParams)
    with mpl.rc_context({"text.color": "red", "font.size": 30, "svg.fonttype": "path", "text.usetex": True}):
        assert charts.bars(rows()) == before
    assert dict(mpl.rcParams) == saved


def test_charts_can_be_drawn_by_many_threads_at_once() -> None:
    alone = charts.bars(rows())
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: charts.bars(rows()), range(12))) == {alone}
