"""The command `augment`: what is measured on digits is what digits are; nothing is written where it is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.cli.app import build
from saccade.cli.augment import augmentations_text
from saccade.recipe.augmentations import assignment, preview_augmentations
from saccade.report import picture
from saccade.report.augmentations import render_augmentations
from saccade.report.pictures import Picture
from saccade.settings import DataSettings, TrainSettings
from saccade.strengths import STRENGTHS
from saccade.study.invariance import Invariance, Level
from tests.cli.test_wrong_use import assert_refused
from tests.conftest import Saccade
from tests.photos import split_folder


def test_digits_keep_their_class_when_turned_a_little_and_never_in_the_mirror(saccade: Saccade, tmp_path: Path) -> None:
    done = saccade("augment", "digits", "--out", tmp_path / "seen", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    found = {each["name"]: each for each in told["augmentations"]}
    assert list(found) == list(STRENGTHS)
    assert {name for name, each in found.items() if each["verdict"] == "no"} == {"mirror", "upside_down"}
    assert found["rotate"]["kept"] >= 7.5
    assert found["translate"]["kept"] < 0.25
    assert found["brightness"]["kept"] == 0.5
    assert "--no-flip" in told["settings"]
    assert "upside_down" not in told["settings"]
    assert f"one or a few at a time:  saccade train digits {told['settings']}\n" in augmentations_text(told)
    page = (tmp_path / "seen" / "augment.html").read_text()
    assert "<pre>saccade train digits --no-flip" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert page.count('<img src="data:image/') == 1 + sum(len(each["levels"]) for each in told["augmentations"])
    for level in found["rotate"]["levels"]:
        assert f"<span>{level['strength']:.3g}</span>" in page
    sheet = np.asarray(Image.open(tmp_path / "seen" / "augment.png"))
    assert sheet.std() > 30
    assert json.loads((tmp_path / "seen" / "augment.json").read_text()) == told


def test_refusals_write_nothing(saccade: Saccade, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    assert_refused(saccade("augment", "digits", "--out", tmp_path / "taken"), "taken")
    assert_refused(saccade("augment", tmp_path / "nowhere", cwd=tmp_path), "nowhere")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "taken", tmp_path / "taken" / "file"]


def test_few_images_are_drawn_a_row_a_strength(tmp_path: Path) -> None:
    told = preview_augmentations(split_folder(tmp_path / "few", (2, 2, 1)), DataSettings(), out=tmp_path / "seen")
    sheet_HW3 = np.asarray(Image.open(told["sheet"]))
    cell, label, title, below, margin = 40 * (80 // 40), 64, 34, 32, 32
    panel = label + 5 * (cell + 4) - 4
    heights = [
        title + count * (cell + 4) - 4 + below
        for count in (1, *(1 if name in ("mirror", "upside_down") else 3 for name in STRENGTHS))
    ]
    height, width, _ = sheet_HW3.shape
    assert width == 2 * panel + 2 * margin
    left = [sum(heights[:count]) for count in range(len(heights) + 1)]
    assert height == margin // 2 + min(each for each in left if each >= sum(heights) / 2)
    labels_HW3 = sheet_HW3[margin // 2 :, margin // 2 : margin // 2 + label - 4]
    names = [name for name, each in zip(("original", *STRENGTHS), left, strict=False) if each < height - margin // 2]
    for name, top in zip(names, left, strict=False):
        for place in range(heights[names.index(name)] // (cell + 4)):
            row = labels_HW3[top + title + place * (cell + 4) :][:cell]
            one = name in ("original", "mirror", "upside_down")
            assert (row.min() == 255) == one, "each row of several strengths has a label of its own"
    again = preview_augmentations(tmp_path / "few", DataSettings(), out=tmp_path / "again")
    for file in ("augment.png", "augment.html"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "seen" / file).read_bytes()
    assert again["augmentations"] == told["augmentations"]


def test_photos_are_jpeg_within_the_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photo_HW3 = np.add.outer(np.arange(60), np.arange(300))[..., None] / 2 + rng.normal(0, 12, (60, 300, 3))
    for pixels_HW3, form in ((photo_HW3.clip(0, 255), "jpeg"), (np.full((60, 300, 3), 7), "png")):
        drawn = picture(pixels_HW3.astype(np.uint8))
        assert drawn.url.startswith(f"data:image/{form};base64,")
        assert (drawn.width, drawn.height) == (300, 60)
    assert len(picture(photo_HW3.clip(0, 255).astype(np.uint8)).url) < 30_000


@pytest.mark.parametrize(
    ("settings", "command"), [("--flip", "<pre>saccade train &#39;my photos/&#39; --flip</pre>"), ("", "")]
)
def test_the_pages_command_can_be_copied(settings: str, command: str) -> None:
    drawn = Picture("data:,", 1, 1)
    told = {"augmentations": [], "source": "my photos/", "classes": ["a", "b"], "settings": settings}
    page = render_augmentations(told, {"original": [drawn]})
    assert command in page
    assert page.count("<pre>") == bool(command)


@pytest.mark.parametrize(
    ("words", "augment"),
    [
        (["--augment", "{rotate: 15, noise: 0.05}"], {"rotate": 15, "noise": 0.05}),
        (["--augment", '{"rotate": 5}'], {"rotate": 5}),
        (["--augment", "trivialaugment"], {"trivialaugment": 1}),
        (["--augment", "rotate,noise"], {"rotate": 15, "noise": 0.05}),
        (["--augment", "[rotate, noise]"], {"rotate": 15, "noise": 0.05}),
        (["--augment.rotate", "5", "--augment.noise", "0.1"], {"rotate": 5, "noise": 0.1}),
    ],
)
def test_the_option_takes_names_and_strengths_as_its_help_says(words: list[str], augment: dict[str, float]) -> None:
    _, bound, _ = build().parse_args(["train", "photos", *words])
    assert bound.arguments["settings"] == TrainSettings(augment=augment)


def test_to_turn_images_upside_down_is_never_suggested() -> None:
    kept = [Invariance(name, "", (Level(strength, 1.0, "yes"),), 1.0, 100)
            for name, strength in (("upside_down", 1.0), ("rotate", 15.0))]  # fmt: skip
    assert assignment(kept) == "--set augment='{rotate: 15}'"
    assert assignment(kept[:1]) == ""


@pytest.mark.parametrize(("verdict", "option"), [("yes", "--flip"), ("no", "--no-flip"), ("undecided", "")])
def test_whether_to_mirror_is_suggested_where_it_is_known(verdict: str, option: str) -> None:
    mirror = Invariance("mirror", "", (Level(1.0, 0.5, verdict),), 1.0, 100)
    assert assignment([mirror]).split(" --set")[0] == option
