"""A source's parts: the same for every command, so that none chooses by what another's test part holds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade import audit, data, recipe
from saccade.errors import SourceError
from saccade.events import listening
from saccade.recipe.material import parts_of
from saccade.recipe.search import Bench
from saccade.recipe.summary import Diary
from saccade.run import SPLIT
from saccade.settings import BaselineSettings, FitSettings, TrainSettings
from tests.photos import photo_folder


@pytest.mark.parametrize("fold", [None, "2/5"])
def test_what_keeps_no_run_has_the_parts_of_one_that_does(tmp_path: Path, fold: str | None) -> None:
    root = photo_folder(tmp_path / "photos", 24, suffix=".png")
    for number in range(6):
        Image.open(root / "disc" / f"{number:04}.png").save(root / "disc" / f"again-{number}.jpg", quality=92)
    settings = TrainSettings.model_validate({"epochs": 1, "size": 16, "model": "mlp", "fold": fold})
    run = recipe.train(root, settings, out=tmp_path / "run").run
    kept = {tuple(row[name] for name in SPLIT) for row in run.read_split()}
    assert set(parts_of(root, settings).rows()) == kept
    assert set(Bench.open(root, settings.model_copy(update={"flip": False})).parts.rows()) == kept
    part_of = {key: part for key, _, _, part in kept}
    assert all(part_of[f"disc/{n:04}.png"] == part_of[f"disc/again-{n}.jpg"] for n in range(6))


def test_a_train_part_of_one_class_is_refused_by_its_name_before_there_is_a_run(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos" / "train", {"shoe": 9})
    for part, seed in (("val", 100), ("test", 200)):
        photo_folder(tmp_path / "photos" / part, {"hat": 6, "shoe": 6}, seed=seed)
    one = r'^The train part of .*photos has images of one class only, "shoe"; a classifier needs training images of at '
    with pytest.raises(SourceError, match=one):
        recipe.fit(tmp_path / "photos", FitSettings(budget=15), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    known = parts_of(tmp_path / "photos", BaselineSettings()).known  # the folds of both parts
    assert known.images.class_counts().tolist() == [6, 15]


def test_near_duplicates_change_the_split() -> None:
    """So that a command which does not look for them would have another."""
    x_NHWC = np.random.default_rng(0).integers(0, 256, (60, 24, 24, 3), dtype=np.uint8)
    images = data.from_arrays(x_NHWC, [0, 1] * 30)
    settings = TrainSettings()
    groups_N = audit.duplicates(images)
    alike_N = groups_N.copy()
    alike_N[4:6] = alike_N[4]
    plain, together = (set(data.split(images, groups_N, settings, each).rows()) for each in (groups_N, alike_N))
    assert plain != together


def test_a_warning_begins_with_what_it_is_about(tmp_path: Path) -> None:
    root = photo_folder(tmp_path, {"cat": 3, "Cat": 60, "dog": 60})
    (root / "dog" / "dead.jpg").symlink_to("nowhere")
    with listening(diary := Diary()):
        audit.balance(data.integrity(data.open(root)))
    assert diary.warnings() == [
        "dog/dead.jpg: links that lead nowhere, sockets and devices: left out",
        "Cat, cat: differ in letter case alone and lie side by side: taken for different classes",
        '"Cat" has 60 images and "cat" 3: accuracy says little of small classes, look at macro F1',
    ]
