"""What integrity check and duplicates find in a messy folder, and what they say was done."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade import audit, data
from saccade.errors import InputError, SourceError
from saccade.events import Finding, Progress, listening
from saccade.settings import DataSettings
from tests.photos import encoded, messy_folder, photo, photo_folder


def found(images: data.ImageSet) -> tuple[data.ImageSet, list[Finding], list[Progress]]:
    heard: list[object] = []
    with listening(heard.append):
        images = data.integrity(images)
        audit.duplicates(images)
    findings = [event for event in heard if isinstance(event, Finding)]
    return images, findings, [event for event in heard if isinstance(event, Progress)]


def test_a_messy_folder_is_read_and_every_fault_named(tmp_path: Path) -> None:
    planted = messy_folder(tmp_path)
    opened = data.open(tmp_path)
    assert len(opened) == 300
    images, findings, progress = found(opened)
    named = {path: (finding.kind, finding.detail) for finding in findings for path in finding.paths}
    copies = ("duplicate", "2 images are copies of 1 different ones: kept on one side of the split")
    assert named == {
        planted["truncated"]: ("unreadable", "the file is cut short: left out"),
        planted["empty"]: ("unreadable", "the file is empty (0 bytes): left out"),
        planted["text"]: ("unreadable", "not an image: it holds text: left out"),
        planted["cmyk"]: ("converted", "CMYK turned into RGB"),
        planted["deep"]: ("converted", "16-bit values scaled to 8 bits"),
        planted["rotated"]: ("converted", "turned upright as its EXIF orientation says"),
        planted["original"]: copies,
        planted["copy"]: copies,
        planted["hidden"]: ("ignored", "hidden or system files: left out"),
        planted["class"]: ("empty-class", "class folders without images: not counted as classes"),
    }
    assert len(images) == 297
    assert images.classes == ("disc", "square", "stripes")
    assert images.class_counts().tolist() == [98, 99, 100]  # 97 + the copy; 98 + CMYK; 98 + 16-bit and rotated
    assert images.pixels.sizes([planted["rotated"], planted["original"]]).tolist() == [[40, 48], [48, 40]]
    assert (progress[-1].task, progress[-1].done, progress[-1].total) == ("integrity", 300, 300)
    assert [event.done for event in progress] == sorted(event.done for event in progress)


@pytest.mark.parametrize(("full", "severity"), [(0, "warning"), (8, "note")])
def test_sixteen_bits_that_are_hardly_used_are_a_warning_where_that_is_usual(
    full: int, severity: str, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (12, 32, 32)).astype(np.uint16)
    values[:full] *= 16
    for number, x_HW in enumerate(values):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(x_HW).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    _, findings, _ = found(data.open(tmp_path))
    [faint] = [finding for finding in findings if finding.kind == "faint"]
    assert (faint.severity, len(faint.paths)) == (severity, 12 - full)


def test_a_class_whose_images_cannot_be_read_is_no_class(tmp_path: Path) -> None:
    photo_folder(tmp_path, {"a": 2, "c": 2})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.jpg").write_bytes(b"")
    images, findings, _ = found(data.open(tmp_path))
    assert images.classes == ("a", "c")
    assert images.labels_N.tolist() == [0, 0, 1, 1]
    assert ("empty-class", ("b",)) in [(finding.kind, finding.paths) for finding in findings]


def test_fewer_than_two_readable_classes_are_refused(tmp_path: Path) -> None:
    photo_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "b" / "0000.jpg").write_bytes(b"")
    with pytest.raises(SourceError) as caught:
        data.integrity(data.open(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} has readable images of 1 class; a classifier needs at least two. The first of 1 unreadable ones "
        'is "b/0000.jpg": the file is empty (0 bytes).'
    )


def test_copies_are_found_by_pixels_not_by_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    picture = photo(0)
    (tmp_path / "a" / "1.png").write_bytes(encoded(picture, "PNG"))
    (tmp_path / "a" / "2.bmp").write_bytes(encoded(picture, "BMP"))
    (tmp_path / "b" / "3.tiff").write_bytes(encoded(picture, "TIFF"))
    (tmp_path / "b" / "4.png").write_bytes(encoded(picture.transpose(1, 0, 2), "PNG"))
    changed = picture.copy()
    changed[0, 0, 0] ^= 1
    (tmp_path / "b" / "5.png").write_bytes(encoded(changed, "PNG"))
    images, findings, _ = found(data.open(tmp_path))
    assert audit.duplicates(images).tolist() == [0, 0, 0, 3, 4]
    assert {finding.kind: finding.paths for finding in findings} == {
        "duplicate": ("a/1.png", "a/2.bmp", "b/3.tiff"),
        "label-conflict": ("a/1.png", "a/2.bmp", "b/3.tiff"),
    }
    [conflict] = [finding.detail for finding in findings if finding.kind == "label-conflict"]
    assert conflict == "exact copies under two labels, of which at most one is right: kept as they are"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((), ": kept on one side of the split"),
        (("train",), ": kept on one side of the split"),
        (("train", "test"), ": kept on one side of what is split here"),
        (("train", "validation", "test"), ""),
    ],
)
def test_copies_are_said_to_be_kept_together_where_the_split_is_made_here(
    tmp_path: Path, parts: tuple[str, ...], said: str
) -> None:
    for seed, part in enumerate(parts or ("",)):
        photo_folder(tmp_path / part, {"a": 2, "b": 2}, suffix=".png", seed=seed)
    first = tmp_path / (parts[0] if parts else "") / "a" / "0000.png"
    first.with_name("copy.png").write_bytes(first.read_bytes())
    _, findings, _ = found(data.open(tmp_path))
    [copies] = [finding.detail for finding in findings if finding.kind == "duplicate"]
    assert copies == f"2 images are copies of 1 different ones{said}"


def test_equal_pixels_in_another_shape_are_no_copies() -> None:
    flat = np.arange(96, dtype=np.uint8)
    wide, tall = (
        data.from_arrays(np.tile(flat.reshape(shape), (2, 1, 1, 1)), [0, 1]) for shape in ((1, 4, 8, 3), (1, 8, 4, 3))
    )
    assert wide.hashes()[0] == wide.hashes()[1] != tall.hashes()[0]


def test_copies_across_given_parts_are_leaks(tmp_path: Path) -> None:
    for part, name, seed in (
        ("train", "a", 1), ("train", "a", 2), ("train", "b", 3), ("train", "b", 4),
        ("validation", "a", 2), ("validation", "b", 5), ("test", "a", 1), ("test", "b", 5), ("test", "b", 6),
    ):  # fmt: skip
        folder = tmp_path / part / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed}.png").write_bytes(encoded(photo(0, seed=seed), "PNG"))
    images, findings, _ = found(data.open(tmp_path))
    (leak,) = [finding for finding in findings if finding.kind == "leak"]
    assert set(leak.paths) == {"train/a/1.png", "train/a/2.png", "validation/b/5.png"}
    assert leak.severity == "warning"
    parts = data.split(images, audit.duplicates(images), DataSettings())
    assert parts.train.images.keys == ("train/b/3.png", "train/b/4.png")
    assert parts.validation.images.keys == ("validation/a/2.png",)
    assert len(parts.test) == 3


def test_a_selection_answers_for_its_own_images_alone(tmp_path: Path) -> None:
    images = data.open(photo_folder(tmp_path, 2))
    chosen = images.select([4, 1])
    assert chosen.keys == (images.keys[4], images.keys[1])
    assert chosen.labels_N.tolist() == [2, 0]
    assert np.array_equal(chosen.pixels.squares(chosen.keys, 8), images.pixels.squares(images.keys, 8)[[4, 1]])
    for ask in (
        chosen.pixels.read,
        chosen.pixels.facts,
        lambda key: chosen.pixels.thumbnail(key, 8),
    ):
        with pytest.raises(InputError, match=r'The image "disc/0000\.jpg" is not one of these 2;'):
            ask("disc/0000.jpg")
    for ask_many in (
        chosen.pixels.sizes,
        chosen.pixels.check,
        chosen.pixels.only,
        lambda keys: chosen.pixels.squares(keys, 8),
    ):
        with pytest.raises(InputError, match="it may belong to another part"):
            ask_many(["disc/0001.jpg", "disc/0000.jpg"])


def test_an_image_that_vanishes_is_named(tmp_path: Path) -> None:
    images = data.open(photo_folder(tmp_path, 2), DataSettings(memory=0))
    images = data.integrity(images)
    (tmp_path / "disc" / "0001.jpg").unlink()
    with pytest.raises(InputError, match=r"^disc/0001\.jpg: there is no such file$"):
        images.pixels.squares(images.keys, 8)
