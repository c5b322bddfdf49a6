"""Groups by a pattern in file names: kept on one side by the split and by folds, named where given parts share one."""

from pathlib import Path

import numpy as np
import pytest

from saccade import data
from saccade.audit import duplicates
from saccade.errors import SettingError
from saccade.events import Finding, listening
from saccade.recipe.material import gather
from saccade.settings import DataSettings
from tests.photos import encoded, photo

PATIENTS = DataSettings(group_pattern=r"patient(\d+)")


def patients(root: Path, parts: tuple[str, ...] = ("",), each: int = 4) -> Path:
    """Write 15 patients' images, `each` of either class, into every part."""
    for place, part in enumerate(parts):
        for label, name in enumerate(("ill", "well")):
            (root / part / name).mkdir(parents=True)
            for number in range(15):
                for shot in range(each):
                    rng = np.random.default_rng([place, label, number, shot])
                    picture = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1))).astype(np.uint8)
                    (root / part / name / f"patient{number:02d}-{shot}.png").write_bytes(encoded(picture, "PNG"))
    return root


def test_images_whose_names_share_what_the_pattern_finds_are_never_on_two_sides(tmp_path: Path) -> None:
    with gather(patients(tmp_path / "photos"), PATIENTS, tmp_path / "run") as material:
        rows = list(material.parts.rows())
        known = material.parts.known.images.keys
        numbers = {key: material.groups[key] for key in known}
    sides: dict[str, set[str]] = {}
    for key, _, _, part in rows:
        sides.setdefault(key.split("patient")[1][:2], set()).add(part)
    assert len(sides) == 15
    assert all(len(parts) == 1 for parts in sides.values())
    assert {part for parts in sides.values() for part in parts} == {"train", "validation", "test"}
    # The numbers that folds are made by are the patients', too.
    patient = [key.split("patient")[1][:2] for key in known]
    assert len(set(numbers.values())) == len(set(patient)) == len(set(zip(patient, numbers.values(), strict=True)))


def test_folds_keep_such_groups_together(tmp_path: Path) -> None:
    images = data.integrity(data.open(patients(tmp_path), PATIENTS))
    fold_N = data.folds(images, np.arange(len(images)), 5, seed=0)
    for group in set(images.groups):
        assert len(set(fold_N[[own == group for own in images.groups]].tolist())) == 1


def test_a_group_across_given_parts_is_a_leak(tmp_path: Path) -> None:
    root = patients(tmp_path, ("train", "test"), each=1)
    for path in (root / "train").rglob("patient0[0-9]*"):
        path.rename(path.with_name(path.name.replace("patient", "patient1")))  # only 10 to 14 are in both now
    images = data.integrity(data.open(root, PATIENTS))
    heard: list[object] = []
    with listening(heard.append):
        parts = data.split(images, duplicates(images), PATIENTS)
    [leak] = [event for event in heard if isinstance(event, Finding) and event.kind == "leak"]
    assert len(leak.paths) == 10
    assert all(path.startswith("train/") and "patient1" in path for path in leak.paths)
    assert "whose group also lies in a later part" in leak.detail
    assert len(parts.test) == 30


def test_what_the_pattern_finds_is_told_and_a_given_group_counts_more(tmp_path: Path) -> None:
    root = patients(tmp_path / "photos", each=1)
    (root / "ill" / "scan.png").write_bytes(encoded(photo(0, seed=9), "PNG"))
    [told] = [finding for finding in data.open(root, PATIENTS).ignored if finding.kind == "group"]
    assert told.detail == (
        r'30 images in 15 groups by the pattern "patient(\d+)"; in the names of 1 it finds nothing: each of them '
        "stands alone; 15 groups hold images of several classes: is the pattern too wide?"
    )
    assert told.paths == ("ill/scan.png",)
    table = tmp_path / "photos" / "table.csv"
    table.write_text("path,label,group\nill/patient00-0.png,ill,A\nwell/patient00-0.png,well,\nill/scan.png,ill,\n")
    assert data.open(table, PATIENTS).groups == ("A", None, "00")
    both = DataSettings(group_pattern=r"(ill|well)/patient(\d+)|scan")
    assert data.open(table, both).groups == ("A", None, "well / 00")
    assert data.open(root, DataSettings(group_pattern=r"patient\d+")).groups[1] == "patient01"


def test_a_pattern_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    root = patients(tmp_path, each=1)
    with pytest.raises(SettingError) as caught:
        data.open(root, DataSettings(group_pattern="subject([0-9]+)"))
    assert str(caught.value) == (
        f'The group pattern "subject([0-9]+)" finds nothing in the names of {root}, such as "ill/patient00-0.png"; '
        'give a regular expression such as "patient([0-9]+)".'
    )
