"""Every kind of source gives the same images; every wrong one gives a clear sentence."""

import gzip
import io
import os
import socket
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade import data
from saccade.data.trees import Folder, Tar, Zip, read_file
from saccade.errors import DecodeError, SourceError
from saccade.events import Finding, listening
from saccade.settings import DataSettings
from tests.photos import CLASSES, encoded, photo, photo_folder, split_folder

Pack = Callable[[Path, Path], Path]


def zipped(folder: Path, target: Path, *, method: int = zipfile.ZIP_STORED, top: str = "") -> Path:
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, top + path.relative_to(folder).as_posix())
    return target


def tarred(folder: Path, target: Path, *, mode: str = "w", top: str = ".") -> Path:
    with tarfile.open(target, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, top)
    return target


def contents(images: data.ImageSet) -> dict[str, tuple[str, str | None, str]]:
    """Return key → class, given part and hash."""
    labels = [images.classes[label] for label in images.labels_N]
    return {
        key: (label, part, digest)
        for key, label, part, digest in zip(images.keys, labels, images.given_parts, images.hashes(), strict=True)
    }


def findings_of(images: data.ImageSet) -> list[Finding]:
    heard: list[object] = []
    with listening(heard.append):
        data.integrity(images)
    return [event for event in heard if isinstance(event, Finding)]


def refusal(source: str | Path) -> str:
    with pytest.raises(SourceError) as caught:
        data.integrity(data.open(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "pack",
    [
        lambda folder, to: zipped(folder, to / "a.zip"),
        lambda folder, to: zipped(folder, to / "a.zip", method=zipfile.ZIP_DEFLATED),
        lambda folder, to: tarred(folder, to / "a.tar"),
        lambda folder, to: tarred(folder, to / "a.tar.gz", mode="w:gz"),
        lambda folder, to: tarred(folder, to / "a.tgz", mode="w:gz"),
        lambda folder, to: tarred(folder, to / "a.tar.bz2", mode="w:bz2"),
        lambda folder, to: tarred(folder, to / "a.tar.xz", mode="w:xz"),
    ],
)
@pytest.mark.parametrize("make", [photo_folder, split_folder])
def test_archives_give_what_the_folder_gives(tmp_path: Path, make: Callable[..., Path], pack: Pack) -> None:
    folder = make(tmp_path / "photos", *([(3, 1, 2)] if make is split_folder else [3]))
    images = data.open(folder)
    assert images.classes == CLASSES
    assert len(images) == 9 if make is photo_folder else 18
    assert contents(data.open(pack(folder, tmp_path))) == contents(images)


def test_a_single_folder_around_everything_is_looked_through(tmp_path: Path) -> None:
    folder = split_folder(tmp_path / "photos", (3, 1, 2))
    plain, wrapped = data.open(folder), data.open(zipped(folder, tmp_path / "a.zip", top="my photos/v2/"))
    assert wrapped.keys == tuple(f"my photos/v2/{key}" for key in plain.keys)
    assert (wrapped.classes, wrapped.given_parts) == (plain.classes, plain.given_parts)
    assert data.open(tarred(folder, tmp_path / "a.tar", top="x")).given_parts == plain.given_parts


def test_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    for name in ("cat/2023/may/a.png", "cat/b.png", "dog/c.png", "dog/train/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(photo(0), "PNG"))
    images = data.open(tmp_path)
    assert images.classes == ("cat", "dog")
    assert images.keys == ("cat/2023/may/a.png", "cat/b.png", "dog/c.png", "dog/train/d.png")
    assert images.labels_N.tolist() == [0, 0, 1, 1]
    assert images.given_parts == (None,) * 4


def test_parts_are_known_in_any_case_and_classes_matched_by_name(tmp_path: Path) -> None:
    # "b" comes first in Train and second in TEST: by position the labels would be swapped.
    for name in ("Train/b/1.png", "Train/c/2.png", "VALID/c/3.png", "TEST/a/4.png", "TEST/b/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(photo(0), "PNG"))
    images = data.open(tmp_path)
    assert images.classes == ("a", "b", "c")
    assert {
        key: (images.classes[label], part)
        for key, label, part in zip(images.keys, images.labels_N, images.given_parts, strict=True)
    } == {
        "Train/b/1.png": ("b", "train"),
        "Train/c/2.png": ("c", "train"),
        "VALID/c/3.png": ("c", "validation"),
        "TEST/a/4.png": ("a", "test"),
        "TEST/b/5.png": ("b", "test"),
    }


def test_names_of_classes_are_one_text_whatever_their_unicode_form(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    photo_folder(tmp_path / "folders", {composed: 2, "disc": 2, apart: 3})
    images = data.open(tmp_path / "folders")
    assert (images.classes, images.class_counts().tolist()) == ((composed, "disc"), [5, 2])
    table = tmp_path / "table.csv"
    rows = [f"folders/disc/000{i}.jpg,{name}" for i, name in enumerate([composed, apart])]
    table.write_text("\n".join(["path,label", *rows, f"folders/{composed}/0000.jpg,disc"]), encoding="utf-8")
    images = data.open(table)
    assert (images.classes, images.class_counts().tolist()) == ((composed, "disc"), [2, 1])


def test_classes_side_by_side_that_differ_in_letter_case_alone_are_two_and_told(tmp_path: Path) -> None:
    images = data.open(photo_folder(tmp_path, {"cat": 2, "Cat": 3, "dog": 2}))
    assert images.classes == ("Cat", "cat", "dog")
    (finding,) = findings_of(images)
    assert (finding.kind, finding.severity, finding.paths) == ("class-name", "warning", ("Cat", "cat"))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    images = data.open(photo_folder(tmp_path, {"bus": 2, "car": 2, "train": 2}))
    assert images.classes == ("bus", "car", "train")
    assert set(images.given_parts) == {None}


def spread(root: Path, names: str) -> Path:
    """Write an image to each of the folders."""
    for name in names.split():
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(encoded(photo(0), "PNG"))
    return root


@pytest.mark.parametrize(
    ("folders", "advice"),
    [
        ("train/hat train/shoe eval/hat eval/shoe", "eval to validation or test"),
        ("train/hat train/shoe eval/hat", "eval to validation or test"),
        ("train/hat train/shoe val_2/hat val_2/shoe", "val_2 to validation"),
        ("training/hat training/shoe dev/hat dev/shoe testing/hat",
         "dev to validation, testing to test, training to train"),
        ("x/y/train_set/hat x/y/train_set/shoe x/y/val_set/hat x/y/test_set/hat",
         "test_set to test, train_set to train, val_set to validation"),
        ("trn/hat trn/shoe vld/hat tst/hat eval/hat",
         "eval to validation or test, trn to train, tst to test, vld to validation"),
        ("seg_train/hat seg_train/shoe seg_test/hat seg_test/shoe seg_pred", "seg_test to test, seg_train to train"),
        ("training/hat training/shoe testing", "testing to test, training to train"),
        ("train/hat train/shoe Session2/hat Session2/shoe", "Session2 to validation or test"),
    ],
)  # fmt: skip
def test_parts_by_other_names_are_no_classes(tmp_path: Path, folders: str, advice: str) -> None:
    said = refusal(spread(tmp_path, folders))
    renamed = ", ".join('"{}" to {}'.format(*each.split(" to ")) for each in advice.split(", "))
    assert "holds what look like parts (" in said
    assert said.endswith(f"by other names than train, validation and test: rename {renamed}.")


@pytest.mark.parametrize("folders", ["train test", "x/train x/valid x/test"])
def test_parts_without_class_folders_are_no_classes(tmp_path: Path, folders: str) -> None:
    said = refusal(spread(tmp_path, folders))
    assert "holds parts (" in said
    assert said.endswith("class into a folder of its own within each part, such as train/cat/ and test/cat/.")


@pytest.mark.parametrize(
    ("folders", "classes", "nested"),
    [
        ("animals/cat animals/dog things/car things/bike", "animals things", "animals things"),
        ("top/animals/cat top/animals/dog top/things", "animals things", "top/animals"),
        ("benign/p1 benign/p2 malign/p1 malign/p2", "benign malign", "benign malign"),
        ("train/animals/cat train/animals/dog train/hat test/hat", "animals hat", "train/animals"),
        ("bus/2023 bus/2024 car/2023 car/2024 train/2023 train/2024", "bus car train", "bus car train"),
        ("bus/a bus/b train/c train/d", "bus train", "bus train"),
        ("bus car train/old train/new", "bus car train", "train"),
        ("valley/a valley/b device/a device/b", "device valley", "device valley"),
        ("cat/images dog/images", "cat dog", ""),
        ("cat cat/a cat/b dog", "cat dog", ""),
    ],
)
def test_folders_within_class_folders_are_told(tmp_path: Path, folders: str, classes: str, nested: str) -> None:
    images = data.open(spread(tmp_path, folders))
    assert images.classes == tuple(classes.split())
    told = [finding for finding in images.ignored if finding.kind == "nested"]
    assert [path for finding in told for path in finding.paths] == nested.split()
    assert all("which are not used as classes" in finding.detail for finding in told)


def test_test_images_without_class_folders_are_told_and_left_out(tmp_path: Path) -> None:
    photo_folder(tmp_path / "train", 2)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "1.jpg").write_bytes(encoded(photo(0)))
    images = data.open(tmp_path)
    assert set(images.given_parts) == {"train"}
    (finding,) = findings_of(images)
    assert (finding.kind, finding.paths) == ("ignored", ("test/1.jpg",))
    assert "without a class" in finding.detail


def test_classes_are_in_natural_order(tmp_path: Path) -> None:
    assert data.open(photo_folder(tmp_path, {"10": 1, "9": 1, "1": 1})).classes == ("1", "9", "10")


def test_the_order_of_the_file_system_does_not_matter(tmp_path: Path) -> None:
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(5)]
    for order in (names, names[::-1]):
        root = tmp_path / str(order is names)
        for name in order:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(encoded(photo(0, seed=names.index(name)), "PNG"))
    assert contents(data.open(tmp_path / "True")) == contents(data.open(tmp_path / "False"))


def test_names_may_be_anything(tmp_path: Path) -> None:
    names = [
        b"a b.png",
        "🐈.png".encode(),
        b"new\nline.png",
        b"-rf.png",
        b"caf\xe9.png",
        b"=cmd().png",
        b"x" * 251 + b".png",
    ]
    for folder in (b"c\xe9", b"dog"):
        root = tmp_path / os.fsdecode(folder)
        root.mkdir()
        for name in names:
            (root / os.fsdecode(name)).write_bytes(encoded(photo(0), "PNG"))
    images = data.integrity(data.open(tmp_path))
    assert len(images) == 14
    assert images.classes == ("c\\xe9", "dog")
    assert "dog/caf\\xe9.png" in images.keys
    assert "dog/new\nline.png" in images.keys
    "".join(images.keys).encode()  # so that JSON, CSV and HTML can hold them
    assert len(data.open(tarred(tmp_path, tmp_path.parent / "names.tar"))) == 14


def test_links_sockets_and_loops_are_skipped_or_followed(tmp_path: Path) -> None:
    photo_folder(tmp_path / "elsewhere", {"cat": 2})
    root = photo_folder(tmp_path / "photos", {"dog": 2})
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (root / "dog" / "round").symlink_to(root)
    (root / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "dog" / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(root / "dog" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(root / "dog")
        server.bind("socket.jpg")
        os.chdir(before)
        images = data.open(root)
    assert images.keys == ("cat/0000.jpg", "cat/0001.jpg", "dog/0000.jpg", "dog/0001.jpg")
    skipped = {finding.detail: finding.paths for finding in findings_of(images)}
    assert skipped == {
        "links that lead back to a folder around them: left out": ("dog/round",),
        "links that lead nowhere, sockets and devices: left out": (
            "dog/gone.jpg",
            "dog/pipe.jpg",
            "dog/self.jpg",
            "dog/socket.jpg",
        ),
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_several_files_of_one_name_in_an_archive_the_last_is_read_and_it_is_told(tmp_path: Path) -> None:
    older, newer = encoded(photo(0)), encoded(photo(1))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, picture in (("cat/1.jpg", older), ("dog/2.jpg", older), ("cat/1.jpg", newer)):
            archive.writestr(name, picture)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, picture in (("cat/1.jpg", older), ("dog/2.jpg", older), ("./cat/1.jpg", newer)):
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            tar.addfile(member, io.BytesIO(picture))
    for path in (tmp_path / "a.zip", tmp_path / "a.tar"):
        images = data.open(path)
        assert images.keys == ("cat/1.jpg", "dog/2.jpg")
        [found] = findings_of(images)
        assert "of which the last is read" in found.detail
        assert found.paths in (("cat/1.jpg",), ("./cat/1.jpg",))
    assert Zip(tmp_path / "a.zip").read("cat/1.jpg") == newer == Tar(tmp_path / "a.tar").read("cat/1.jpg")


def test_dangerous_entries_of_archives_are_never_followed(tmp_path: Path) -> None:
    picture = encoded(photo(0))
    (tmp_path / "secret.jpg").write_bytes(picture)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (
            "cat/1.jpg",
            "dog/2.jpg",
            "cat/../../secret.jpg",
            "/etc/3.jpg",
            "__MACOSX/cat/._1.jpg",
            ".hidden/x.jpg",
        ):
            archive.writestr(name, picture)
        link = zipfile.ZipInfo("cat/link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(tmp_path / "secret.jpg"))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("cat/1.jpg", "dog/2.jpg"):
            (tmp_path / "plain.jpg").write_bytes(picture)
            tar.add(tmp_path / "plain.jpg", name)
        for name, kind in (
            ("cat/link.jpg", tarfile.SYMTYPE),
            ("cat/hard.jpg", tarfile.LNKTYPE),
            ("cat/dev.jpg", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path / "secret.jpg")
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo("../out.jpg"))
    for archive_path, expected in (
        (
            tmp_path / "a.zip",
            {
                "hidden or system files": {"__MACOSX/cat/._1.jpg", ".hidden/x.jpg"},
                "names that lead out of the archive": {"cat/../../secret.jpg", "/etc/3.jpg"},
                "links and devices in the archive, which are never followed": {"cat/link.jpg"},
            },
        ),
        (
            tmp_path / "a.tar",
            {
                "names that lead out of the archive": {"../out.jpg"},
                "links and devices in the archive, which are never followed": {
                    "cat/link.jpg",
                    "cat/hard.jpg",
                    "cat/dev.jpg",
                },
            },
        ),
    ):
        images = data.open(archive_path)
        assert images.keys == ("cat/1.jpg", "dog/2.jpg")
        assert {
            finding.detail.removesuffix(": left out"): set(finding.paths) for finding in findings_of(images)
        } == expected


def test_damage_within_a_zip_is_told_file_by_file(tmp_path: Path) -> None:
    good = photo_folder(tmp_path / "photos", 3)
    path = zipped(good, tmp_path / "a.zip", method=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("disc/odd.jpg", encoded(photo(0)), zipfile.ZIP_BZIP2)
        archive.writestr("disc/big.bmp", b"\0" * 10**6, zipfile.ZIP_STORED)
        first, offset = archive.infolist()[1], archive.getinfo("disc/big.bmp").header_offset
    content = bytearray(path.read_bytes())
    content[first.header_offset + 60 + len(first.filename)] ^= 0xFF
    content[offset + 500] ^= 0xFF
    path.write_bytes(content)
    told = {finding.detail: finding.paths for finding in findings_of(data.open(path))}
    assert {detail for detail, paths in told.items() if first.filename in paths} < {
        "it is damaged in the archive: left out",
        "it is damaged in the archive (the checksum differs): left out",
    }
    assert "disc/big.bmp" in told["it is damaged in the archive (the checksum differs): left out"]
    assert told["it is packed by method 12; only stored and deflated files are read: left out"] == ("disc/odd.jpg",)


def test_a_zip_written_on_windows_with_backslashes_is_a_tree(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("cat\\1.png", "dog\\2.png", "dog\\", "..\\3.png"):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 0
            archive.writestr(entry, encoded(photo(0), "PNG") if name.endswith("png") else b"")
    images = data.open(tmp_path / "x.zip")
    assert images.keys == ("cat/1.png", "dog/2.png")
    assert [finding.paths for finding in findings_of(images)] == [("../3.png",)]


def test_an_encrypted_entry_is_named(tmp_path: Path) -> None:
    path = zipped(photo_folder(tmp_path / "photos", 2), tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag of the first entry in the directory
    path.write_bytes(content)
    assert [finding.detail for finding in findings_of(data.open(path))] == ["it is encrypted in the archive: left out"]


def test_an_archive_is_closed_with_its_images(tmp_path: Path) -> None:
    path = zipped(photo_folder(tmp_path / "photos", 2), tmp_path / "a.zip")

    def is_open() -> bool:
        return any(Path(link).resolve() == path for link in Path("/proc/self/fd").iterdir())

    images = data.open(path)
    assert is_open()
    del images
    assert not is_open()


def test_wrong_sources_get_a_clear_sentence(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", 2)
    assert refusal("cifar01").endswith('Did you mean "cifar10"?')
    assert refusal(tmp_path / "fotos").endswith(f'Did you mean "{photos}"?')
    assert "Known by name are: digits, mnist" in refusal("/nowhere/at/all/zzz")
    assert refusal(os.devnull) == (
        "/dev/null is neither a folder nor a file; give a folder of class folders, or a file that ends in "
        ".zip, .tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz, .txz, .csv, .parquet, .pq, .npz."
    )

    (tmp_path / "none").mkdir()
    assert "holds no images (it is empty)" in refusal(tmp_path / "none")
    (tmp_path / "none" / "a.txt").write_text("x")
    assert "holds no images (found: 1 × .txt); expected class folders" in refusal(tmp_path / "none")
    photo_folder(tmp_path / "none", {".cat": 2, ".dog": 1}, suffix=".png")
    assert refusal(tmp_path / "none").endswith(
        "none holds no images but hidden ones, 3 whose file or folder has a name that begins with a dot or is the "
        "system's (.cat/0000.png, …); rename it."
    )

    assert "holds 2 images but no class folders: put the images of each class" in refusal(photos / "disc")
    alone = photo_folder(tmp_path / "alone", {"cat": 2})
    assert 'has one class only, "cat"; a classifier needs images of at least two' in refusal(alone)

    for name, content, sentence in (
        ("empty.zip", b"", "is empty (0 bytes)"),
        ("bad.zip", b"PK\3\4 and no more", "is not a zip file, or is damaged"),
        ("bad.tar", b"not a tar file" * 100, "is not a tar file, or is damaged"),
        ("bad.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0 broken", "is not a tar file, or is damaged"),
        ("photos.rar", b"Rar!", "is not a source saccade knows by its extension; give a folder"),
    ):
        (tmp_path / name).write_bytes(content)
        assert sentence in refusal(tmp_path / name)


def test_a_cut_zip_and_tar_are_damaged(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", 3)
    for path in (zipped(folder, tmp_path / "a.zip"), tarred(folder, tmp_path / "a.tar.gz", mode="w:gz")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "or is damaged" in refusal(path)


def test_a_compressed_bomb_is_refused_before_its_end_is_read(tmp_path: Path) -> None:
    zeros = tarfile.TarInfo("cat/zeros.bmp")
    zeros.size = 10 * 2**30
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(zeros.tobuf() + bytes(2**27)) + b"never reached, or damaged")
    assert refusal(tmp_path / "a.tar.gz").endswith("a.tar.gz inflates to more than 200 times its size; it is refused.")


def test_a_tar_of_nothing_but_long_names_is_damaged(tmp_path: Path) -> None:
    name = tarfile.TarInfo("././@LongLink")  # each announces the name of the next, which tarfile reads one in another
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 5
    (tmp_path / "a.tar").write_bytes((name.tobuf(tarfile.GNU_FORMAT) + b"a.jpg".ljust(512, b"\0")) * 2000)
    assert "a.tar is not a tar file, or is damaged" in refusal(tmp_path / "a.tar")


def test_a_tar_cut_within_a_header_is_damaged(tmp_path: Path) -> None:
    whole = tarred(photo_folder(tmp_path / "photos", 2), tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        last = archive.getmembers()[-1].offset
    (tmp_path / "a.tar").write_bytes(whole[: last + 100])
    assert refusal(tmp_path / "a.tar").endswith("a.tar is not a tar file, or is damaged: it is cut short.")


def test_a_bomb_in_a_zip_is_not_inflated_but_a_picture_of_one_colour_is(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", 2)
    Image.new("RGB", (1000, 1000)).save(folder / "disc" / "black.bmp")
    with (folder / "disc" / "bomb.bmp").open("wb") as file:
        file.truncate(2**26 + 1)
    images = data.open(zipped(folder, tmp_path / "a.zip", method=zipfile.ZIP_DEFLATED))
    told = {finding.detail: finding.paths for finding in findings_of(images)}
    assert told == {"it inflates to more than 200 times its size in the archive: left out": ("disc/bomb.bmp",)}


def test_files_too_large_are_no_images(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", 2)
    with (folder / "disc" / "huge.jpg").open("wb") as file:
        file.truncate(2**30 + 1)  # a sparse file
    assert [finding.detail for finding in findings_of(data.open(folder))] == ["it is larger than 1 GiB: left out"]


def test_nothing_is_decoded_by_opening(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path, 2)
    (folder / "disc" / "broken.jpg").write_bytes(b"broken")
    assert len(data.open(folder)) == 7


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path, 40)
    one, four = (data.integrity(data.open(folder, DataSettings(workers=workers))) for workers in (0, 4))
    assert contents(one) == contents(four)
    assert np.array_equal(one.pixels.squares(one.keys, 20), four.pixels.squares(four.keys, 20))


def test_files_that_cannot_be_read_have_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # opened, it would wait for a writer; the device would be read for ever
    for place in (tmp_path, tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(DecodeError, match=r"^it is not a file but a folder, a pipe, a socket or a device$"):
            read_file(place)
    with pytest.raises(DecodeError, match=r"^it cannot be read \(embedded null byte\)$"):
        read_file(tmp_path / "a\0b")
    with pytest.raises(SourceError, match=r"^The folder .*/gone cannot be read: No such file or directory\.$"):
        Folder(tmp_path / "gone")

    folder = photo_folder(tmp_path / "photos", 2)
    tar, whole = Tar(tarred(folder, tmp_path / "a.tar")), Zip(zipped(folder, tmp_path / "a.zip"))
    monkeypatch.setattr("saccade.data.trees.LARGEST_FILE", 10)
    for archive in (tar, whole):
        with pytest.raises(DecodeError, match=r"^it is larger than"):
            archive.read("disc/0000.jpg")
    monkeypatch.undo()
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:600])
    with pytest.raises(DecodeError, match=r"^it is cut short in the archive$"):
        tar.read("square/0001.jpg")


def test_an_archive_of_the_folder_itself_has_no_class_without_a_name(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 2)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(root, ".")
    assert [finding for finding in findings_of(data.open(tmp_path / "a.tar")) if finding.kind == "empty-class"] == []


def test_a_name_that_begins_like_a_users_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo_folder(tmp_path / "~photos", 2)
    assert len(data.open("~photos")) == 6
    with pytest.raises(SourceError):
        data.open("~nothing-of-this-name")


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_that_must_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(b"something")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(SourceError, match=r"cannot be read \(Permission denied\); give one that can"):
        data.open(tmp_path / name)
