"""The report's first section: what to do next, with its curve, its pairs and the classes short of photos."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from saccade.recipe.advice import Evidence, next_steps
from saccade.report import charts, render
from saccade.run import Run
from saccade.study.curves import LearningCurve, learning_curve
from tests.report import runs
from tests.report.test_page import Page

SECTION = re.compile(r'<section id="next".*?</section>', re.DOTALL)


def curve(classes: int, seed: int = 3) -> LearningCurve:
    """Return the curve of a classifier whose error falls with the square root of its images."""
    rng = np.random.default_rng(seed)
    y_train_N, y_validation_N = np.arange(1200) % classes, np.arange(600) % classes

    def predict(indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        right_N = rng.random(600) > 0.06 + 6 * len(indices) ** -0.5
        return np.where(right_N, y_validation_N, (y_validation_N + 1) % classes)

    found = learning_curve(predict, y_train_N, y_validation_N, name="linear softmax", seconds=lambda: 9e9, seed=seed)
    assert found is not None
    return found


def advised(folder: Path, change: Callable[[dict[str, Any]], None] = lambda summary: None) -> Run:
    """Return a run whose summary says what to do next, with pictures of the most confused pairs."""
    counts_KK = runs.confusion(10, images=100, accuracy=0.82, seed=2, close=((3, 5), (1, 9), (0, 8), (2, 4)))

    def add(summary: dict[str, Any]) -> None:
        figures = summary["test"]
        known = Evidence(
            chosen=summary["chosen"],
            classes=summary["classes"],
            counts=summary["class_counts"]["train"],
            figures=figures,
            curve=curve(10),
            network=summary["network"],
            trials=[{"share": 0.25, "accuracy": 0.78}, {"share": 0.5, "accuracy": 0.81}],
            budget=300.0,
            native=32,
        )
        summary["network"]["validation_accuracy"] = 0.826
        summary["next"] = next_steps(known)
        rng = np.random.default_rng(1)
        for place, pair in enumerate(summary["next"]["pairs"], 1):
            pair["pictures"] = [f"pictures/pair-{place:02}-{n:02}.png" for n in range(1, 5)]
            for name in pair["pictures"]:
                Image.fromarray(runs.picture(rng, 64)).save(folder / name)
        change(summary)

    return runs.make(folder, source="pets", classes=list(runs.PHOTO_CLASSES), counts_KK=counts_KK, change=add)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Page, str]:
    run = advised(tmp_path_factory.mktemp("runs") / "pets")
    html = render(run)
    return run, Page(html), html


def test_it_comes_first_and_the_page_stays_whole(made: tuple[Run, Page, str]) -> None:
    _, page, _ = made
    assert page.faults == []
    sections = [attributes["id"] for attributes in page.all("section")]
    assert sections[:3] == ["verdict", "next", "mistakes"]
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_every_step_is_told_in_its_order(made: tuple[Run, Page, str]) -> None:
    run, page, _ = made
    steps = run.read("summary")["next"]["advice"]
    assert len(steps) == 5
    places = [page.text.index(re.sub(r"\s+", " ", step["text"])) for step in steps]
    assert places == sorted(places)


def test_pairs_stand_beside_their_pictures(made: tuple[Run, Page, str]) -> None:
    run, page, html = made
    section = Page(SECTION.findall(html)[0])
    pairs = run.read("summary")["next"]["pairs"]
    assert len(section.all("img")) == 4 * len(pairs) == 16
    for pair in pairs:
        told = f"{pair['true']} → {pair['predicted']} {pair['count']} of {pair['images']} test images"
        assert told in page.text
        assert f"Image of {pair['true']}, taken for {pair['predicted']}" in html


def test_the_classes_are_those_of_the_summary(made: tuple[Run, Page, str]) -> None:
    run, page, _ = made
    rows = run.read("summary")["next"]["classes"]
    assert rows
    for row in rows:
        found = f"{round(row['recall'] * row['seen'])} of {row['seen']}"
        assert f"{row['class']} {row['images']:,} {found} +{100 * row['gain']:.1f} points" in page.text


def test_a_run_without_advice_has_no_such_section(tmp_path: Path) -> None:
    old = advised(tmp_path / "old", lambda summary: summary.pop("next"))
    empty: dict[str, Any] = {"advice": [], "learning_curve": None, "pairs": [], "classes": []}
    new = advised(tmp_path / "new", lambda summary: summary.update(next=empty))
    for run in (old, new):
        assert "next" not in {attributes["id"] for attributes in Page(render(run)).all("section")}


def test_advice_without_a_curve_or_pictures_is_still_told(tmp_path: Path) -> None:
    def bare(summary: dict[str, Any]) -> None:
        summary["next"].update(
            learning_curve=None, classes=[{"class": "cat", "images": 12, "recall": 0.5, "gain": None}]
        )
        for pair in summary["next"]["pairs"]:
            pair["pictures"] = ["../outside.png", "pictures/missing.png"]

    page = Page(render(advised(tmp_path / "bare", bare)))
    assert page.faults == []
    assert "Taken for each other" not in page.text
    assert "class training images share found cat 12 50.0 %" in page.text


def test_what_was_found_of_a_class_is_counted_and_of_which_part_is_said(tmp_path: Path) -> None:
    row = {"class": "cat", "images": 12, "recall": 1 / 3, "seen": 3, "part": "validation", "gain": None}
    page = Page(render(advised(tmp_path / "few", lambda summary: summary["next"].update(classes=[row]))))
    assert page.faults == []
    assert "class training images validation images found gained with the last doubling cat 12 1 of 3" in page.text


def test_hostile_advice_does_nothing(tmp_path: Path) -> None:
    def evil(summary: dict[str, Any]) -> None:
        summary["next"]["advice"].append({"kind": "<u>", "text": "<script>alert(1)</script> {{ 7*7 }}"})
        summary["next"]["pairs"][0].update(true="<script>x</script>", predicted='" onerror="y')
        summary["next"]["classes"][0]["class"] = "<u>class</u>"

    page = Page(render(advised(tmp_path / "evil", evil)))
    assert page.faults == []
    assert not {"script", "u"} & {tag for tag, _ in page.tags}
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert "<script>alert(1)</script> {{ 7*7 }}" in page.text


def dots(svg: str) -> list[tuple[float, float]]:
    """Return the centres of the chart's markers: closed curves, in the order drawn."""
    found = []
    for path in ET.fromstring(svg).iter("path"):
        pairs = re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.attrib["d"])
        if "C" in path.attrib["d"]:
            xy = np.array(pairs, float)
            found.append(((xy[:, 0].min() + xy[:, 0].max()) / 2, (xy[:, 1].min() + xy[:, 1].max()) / 2))
    return found


def test_the_chart_shows_the_points_where_they_are() -> None:
    found = curve(4).plain()
    svg = charts.learning(found)
    shown = [(each["images"], each["accuracy"]) for each in (*found["points"], *found["forecasts"])]
    drawn = dots(svg)
    assert len(drawn) == len(shown) == 6
    (x_N, y_N), (images_N, accuracy_N) = np.array(drawn).T, np.array(shown).T
    for measured, place in ((np.log2(images_N), x_N), (accuracy_N, -y_N)):
        slope, start = np.polyfit(measured, place, 1)
        assert slope > 0
        assert np.abs(slope * measured + start - place).max() < 0.4
    words = [(element.text or "") for element in ET.fromstring(svg).iter("text")]
    assert words.count("today: 1,200") == 1
    assert {"150", "300", "600", "1,200", "2,400", "4,800"} <= set(words)
    assert "nan" not in svg


def test_the_chart_of_a_curve_that_stopped_early_still_marks_today() -> None:
    found = curve(4).plain()
    found["points"] = found["points"][:3]
    assert "today: 1,200" in charts.learning(found)
