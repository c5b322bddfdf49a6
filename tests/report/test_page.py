"""The report as a page: well-formed, alone in the world, escaped, the same bytes twice, true to summary.json."""

import re
import shutil
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.errors import RunError
from saccade.report import render, write
from saccade.run import Run
from tests.report import runs

VOID = {"meta", "link", "img", "br", "path", "circle"}


class Page(HTMLParser):
    """A page taken apart: its elements, texts and what is wrong with its nesting."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self.open]
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes nothing")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, Page, str]]:
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, maker in runs.ALL.items():
        run = maker(folder / name)
        html = write(run).read_text(encoding="utf-8")
        found[name] = run, Page(html), html
    return found


every = pytest.mark.parametrize("name", runs.ALL)
Made = dict[str, tuple[Run, Page, str]]


@every
def test_is_well_formed(made: Made, name: str) -> None:
    _, page, html = made[name]
    assert html.startswith("<!doctype html>")
    assert page.faults == []


@every
def test_every_id_is_unique_and_every_link_leads_to_one(made: Made, name: str) -> None:
    _, page, _ = made[name]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(ids)


@every
def test_stands_alone(made: Made, name: str) -> None:
    _, page, html = made[name]
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")], tag
        for key in ("src", "href", "srcset", "action", "data", "xlink:href"):
            assert re.match(r"(#|data:)", attributes.get(key, "#")), (tag, attributes)
        assert "url(" not in attributes.get("style", "")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


@every
def test_is_accessible(made: Made, name: str) -> None:
    _, page, _ = made[name]
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    assert all("scope" in cell or "aria-hidden" in cell for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


@every
def test_the_same_run_gives_the_same_bytes(made: Made, name: str) -> None:
    run, _, html = made[name]
    assert render(run) == html


@every
def test_the_headline_is_the_summarys(made: Made, name: str) -> None:
    run, page, _ = made[name]
    summary = run.read("summary")
    part = "test" if summary["test"] else "validation"
    figures = summary[part]
    low, high = figures["interval"]
    images = summary["split"][part]
    assert f"{figures['accuracy']:.1%}".replace("%", " %") in page.text
    assert f"95 % interval: {100 * low:.1f} to {100 * high:.1f} %" in page.text
    assert f"{round(figures['accuracy'] * images):,} of {images:,} images" in page.text
    looks = f"looks at this test part: {figures['looks']}" if summary["test"] else "the test part is still sealed"
    assert looks in page.text


def headings(page: Page) -> set[str]:
    return {attributes["id"] for attributes in page.all("section")}


def test_sections_whose_data_are_missing_are_absent(made: Made) -> None:
    everything = headings(made["photos"][1])
    assert everything >= {"baselines", "checks", "findings", "split", "inputs", "training", "confusion", "mistakes"}
    assert everything - headings(made["baseline_won"][1]) == {"checks", "inputs", "training"}
    assert everything - headings(made["sealed"][1]) == {"baselines", "mistakes"}


def test_the_only_mistake_is_told_of_as_one(tmp_path: Path) -> None:
    run = runs.make(tmp_path / "one", source="x", classes=["a", "b"], counts_KK=np.array([[10, 0], [1, 9]]))
    assert "The only mistake. It may be the label's mistake" in Page(render(run)).text


def test_hostile_names_are_shown_and_do_nothing(made: Made) -> None:
    _, page, html = made["hostile"]
    for name in ("<script>alert(1)</script>", '=cmd|"/c calc"!A1', "🦊 fox & 狐 'quoted'", "two↵lines⇥and a tab"):
        assert name in page.text
    assert "x" * 255 in page.text
    assert "$\\frac{1}{2}$ {{ 7*7 }}" in page.text
    assert "49" not in re.findall(r"<li>(.*?)</li>", html)
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; {{ 7*7 }}" in html
    assert not re.search("[\u202e\u0007\ud800-\udfff]", html)
    assert not {"b"} & {tag for tag, _ in page.tags if tag == "u"}
    assert "u" not in {tag for tag, _ in page.tags}


def test_pictures_come_from_the_runs_folder_only(made: Made) -> None:
    run, page, _ = made["hostile"]
    kept = [m for m in run.read("summary")["test"]["mistakes"][2:] if (run.path / m["picture"]).exists()]
    assert page.text.count("no picture kept") == 2
    assert len([image for image in page.all("img") if image["alt"].startswith("Image labelled")]) == len(kept)


def test_numbers_of_every_class_are_the_summarys(made: Made) -> None:
    run, page, _ = made["photos"]
    for row in run.read("summary")["test"]["per_class"]:
        right = round(row["recall"] * row["images"])
        shares = f"{100 * row['recall']:.1f} % {100 * row['precision']:.1f} % {row['f1']:.2f}"
        assert f"{row['class']} {right:,} of {row['images']:,} {shares}" in page.text


def test_most_confused_pairs_come_first(made: Made) -> None:
    _, page, _ = made["photos"]
    after = page.text[page.text.index("Most confused pairs") :]
    assert after.startswith("Most confused pairs true class taken for images of its class airplane ship 127 12.7 %")


def test_a_hundred_classes_get_a_picture_of_the_matrix(made: Made) -> None:
    _, page, _ = made["hundred_classes"]
    heat = next(image for image in page.all("img") if image.get("class") == "heat")
    assert (heat["width"], heat["height"]) == ("100", "100")
    assert "Without test images, so not measured: “alder 01” and “ash 06”" in page.text


def test_long_lists_of_findings_are_folded(made: Made) -> None:
    _, page, _ = made["checks_failed"]
    assert "4 more findings of this kind" in page.text
    assert "315 more files" in page.text
    assert "… and 120 more files, in findings.json." in page.text
    assert "The loss did not fall between steps 90 and 480." in page.text


def test_a_missing_or_damaged_summary_is_named(tmp_path: Path) -> None:
    run = runs.digits(tmp_path / "run")
    (run.path / "summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"summary\.json is missing or damaged"):
        write(run)
    assert not run.report.exists()


def test_only_a_summary_is_needed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    figures: dict[str, Any] = {"accuracy": 0.5, "interval": None}
    summary = {"source": "s", "images": 8, "classes": ["a", "b"], "chosen": "mlp", "validation": figures,
               "split": {"train": 4, "validation": 2, "test": 2}, "seconds": 3.0}  # fmt: skip
    run.write("summary", summary)
    page = Page(render(run))
    assert page.faults == []
    assert "1 of 2 images" in page.text


def test_activations_that_stayed_as_they_were_are_told_once(made: Made, tmp_path: Path) -> None:
    run, _, _ = made[next(iter(made))]
    copy = Run(Path(shutil.copytree(run.path, tmp_path / "run")))
    rows = [{"layer": f"relu{place}", "kind": "ReLU", "mean": 19.7, "sd": 2.5 + place, "saturated": 0.5, "dead": 0.0}
            for place in range(3)]  # fmt: skip
    moved = [rows[0], {**rows[1], "mean": 19.9}, rows[2]]
    network = {"name": "convnet", "activations": {"images": 24, "start": rows, "end": moved, "faults": []}}
    for chosen, told in (("convnet", False), ("linear softmax on pixels", True)):
        copy.write("summary", {**run.read_summary(), "network": network, "chosen": chosen})
        page = render(copy)
        assert page.count("before: 19.7") == page.count("<small>before: ") == 1
        assert ('Of <bdi class="name">convnet</bdi>, which was trained and not chosen.' in page) == told


def test_writing_is_quick(made: Made) -> None:
    run, _, _ = made["photos"]
    begun = time.process_time()
    write(run)
    assert time.process_time() - begun < 2
