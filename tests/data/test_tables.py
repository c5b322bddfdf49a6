"""Manifests, arrays and named data sets."""

import io
import re
import struct
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from saccade import data
from saccade.errors import SourceError
from saccade.events import Finding, listening
from saccade.settings import DataSettings
from tests.photos import photo_folder

ROWS = [
    ("photos/disc/0000.jpg", "disc", "train", "p1"),
    ("photos/disc/0001.jpg", "disc", "", "p1"),
    ("photos/square/0000.jpg", "square", "Val", ""),
    ("photos/square/0001.jpg", "square", "TEST", "p2"),
    ("photos/square/gone.jpg", "square", "train", ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photo_folder(tmp_path / "photos", 2)
    return tmp_path


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], header: str = "path,label,split,group") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def refusal(source: str | Path) -> str:
    with pytest.raises(SourceError) as caught:
        data.integrity(data.open(source))
    return str(caught.value)


def check_rows(images: data.ImageSet) -> None:
    assert images.keys == tuple(sorted(row[0] for row in ROWS))
    assert images.classes == ("disc", "square")
    assert images.labels_N.tolist() == [0, 0, 1, 1, 1]
    assert images.given_parts == ("train", None, "validation", "test", "train")
    assert images.groups == ("p1", "p1", None, "p2", None)
    heard: list[object] = []
    with listening(heard.append):
        readable = data.integrity(images)
    (finding,) = [event for event in heard if isinstance(event, Finding)]
    assert (finding.kind, finding.detail) == ("unreadable", "there is no such file: left out")
    assert finding.paths == ("photos/square/gone.jpg",)
    assert len(readable) == 4


def test_csv_manifest(folder: Path) -> None:
    check_rows(data.open(write_csv(folder / "list.csv", ROWS)))


@pytest.mark.parametrize("between", [b",", b";", b"\t"])
def test_csv_as_excel_writes_it(folder: Path, between: bytes) -> None:
    path = write_csv(folder / "list.csv", ROWS, " Path,LABEL,Split,group")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b",", between))
    check_rows(data.open(path))


def test_rows_without_anything_are_none(folder: Path) -> None:
    check_rows(data.open(write_csv(folder / "list.csv", [ROWS[0], ("", "", "", ""), *ROWS[1:], ("",) * 4])))


def test_paths_of_windows_are_read_where_no_file_has_backslashes_in_its_name(folder: Path) -> None:
    odd = folder / "photos" / "disc" / "odd\\name.jpg"
    (folder / "photos" / "disc" / "0001.jpg").rename(odd)
    paths = ["photos\\disc\\0000.jpg", "photos/disc/odd\\name.jpg", "photos/square\\0000.jpg", "photos\\gone.jpg"]
    images = data.open(write_csv(folder / "list.csv", [(path, path[7:11]) for path in paths], "path,label"))
    assert sorted(images.keys) == sorted(["photos/disc/0000.jpg", paths[1], "photos/square/0000.jpg", paths[3]])
    assert len(data.integrity(images)) == 3


def test_whole_numbers_that_a_table_keeps_as_floats_are_whole(folder: Path) -> None:
    table = {"path": [row[0] for row in ROWS], "label": [1.0, 2.0, None, 10.0, float("nan")]}
    pq.write_table(pa.table({**table, "group": [0.5, 7.0, None, None, 3.0]}), folder / "list.parquet")
    images = data.open(folder / "list.parquet")
    assert (images.classes, images.groups) == (("1", "2", "10"), ("0.5", "7", None))
    assert [finding.paths for finding in images.ignored] == [("photos/square/0000.jpg", "photos/square/gone.jpg")]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["1", "1.0", "2.00", "", "10"], ("1", "2", "10")),
        (["1.0", "2.0", "3.0", "1.0"], ("1", "2", "3")),
        (["1", "1.0", "2.5"], ("1", "1.0", "2.5")),
        (["1", "1.0", "disc"], ("1", "1.0", "disc")),
        (["01", "1", "007"], ("01", "1", "007")),
    ],
)
def test_labels_are_one_number_with_and_without_a_point(
    folder: Path, labels: list[str], classes: tuple[str, ...]
) -> None:
    images = data.open(write_csv(folder / "list.csv", [(f"{i}.jpg", x) for i, x in enumerate(labels)], "path,label"))
    assert set(images.classes) == set(classes)


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_a_column_without_a_name_is_neither_split_nor_group(folder: Path, columns: int) -> None:
    header = ",".join(("path", "label", "split", "group")[:columns])
    rows = [row[:columns] for row in ROWS]
    plain = data.open(write_csv(folder / "plain.csv", rows, header))
    indexed = [(str(i % 3), *row) for i, row in enumerate(rows)]
    numbered = data.open(write_csv(folder / "list.csv", indexed, f",{header}"))
    assert (numbered.keys, numbered.classes) == (plain.keys, plain.classes)
    assert numbered.given_parts == plain.given_parts
    assert numbered.groups == plain.groups
    assert refusal(write_csv(folder / "list.csv", [("0", "1.jpg", "x")], ",file,label")).endswith("found: file, label.")


def test_parquet_manifest(folder: Path) -> None:
    columns = dict(zip(("path", "label", "split", "group"), map(list, zip(*ROWS, strict=True)), strict=True))
    pq.write_table(
        pa.table({**columns, "split": [value or None for value in columns["split"]]}), folder / "list.parquet"
    )
    check_rows(data.open(folder / "list.parquet"))


def test_a_manifest_needs_no_split_and_group_and_may_number_its_labels(folder: Path) -> None:
    table = {"path": [row[0] for row in ROWS[:3]], "label": [10, 9, 9]}
    pq.write_table(pa.table(table), folder / "list.pq")
    images = data.open(folder / "list.pq")
    assert images.classes == ("9", "10")
    assert images.given_parts == images.groups == (None,) * 3


def test_wrong_manifests_get_a_clear_sentence(folder: Path) -> None:
    path = folder / "list.csv"
    a, b = "photos/disc/0000.jpg", "photos/disc/0001.jpg"
    write_csv(path, [(a, "x")], "file,label")
    assert refusal(path).endswith(
        "list.csv lacks the column path; expected path and label (and split and group if you like), found: file, label."
    )
    write_csv(path, [(a,)], "file")
    assert "lacks the columns path and label" in refusal(path)
    path.write_bytes(bytes(range(128, 256)) + b"\x00\x01,\x02\n")
    assert "list.csv is no table of text: give lines such as path,label and cats/1.jpg,cat" in refusal(path)
    write_csv(path, [(a, "cat"), ("./" + a, "dog")], "path,label")
    assert f'gives "{a}" two labels, "cat" and "dog"; saccade needs one label an image' in refusal(path)
    write_csv(path, [(a, "cat", "train"), (a, "cat", "test")], "path,label,split")
    assert f'puts "{a}" into two splits' in refusal(path)
    write_csv(path, [(a, "cat", "trian"), (b, "dog", "test")], "path,label,split")
    assert 'the split "trian" is unknown; expected train, validation or test' in refusal(path)
    write_csv(path, [(a, "x", "cat")], "path,Label,label")
    assert refusal(path).endswith("list.csv has the column label more than once; keep one of them.")
    write_csv(path, [("", "cat")], "path,label")
    assert 'has a row without a path (its label is "cat")' in refusal(path)
    write_csv(path, [(a, "")], "path,label")
    assert "lists no labelled images" in refusal(path)
    path.write_bytes(b'path,label\n"' + b"x" * 200_000 + b'",cat\n')
    assert "cannot be read as CSV" in refusal(path)
    (folder / "bad.parquet").write_bytes(b"PAR1 no")
    assert "cannot be read as Parquet" in refusal(folder / "bad.parquet")
    pq.write_table(pa.table({"path": [a], "label": [["cat", "dog"]]}), folder / "many.parquet")
    assert "holds several labels an image; saccade needs one label" in refusal(folder / "many.parquet")


def test_rows_without_a_label_or_given_twice_are_told(folder: Path) -> None:
    rows = [("photos/disc/0000.jpg", "disc"), ("photos/disc/0001.jpg", ""), ("photos/square/0000.jpg", "square")]
    images = data.open(write_csv(folder / "list.csv", [*rows, rows[0]], "path,label"))
    assert len(images) == 2
    assert [(finding.kind, finding.paths) for finding in images.ignored] == [
        ("ignored", ("photos/disc/0001.jpg",)),
        ("ignored", ("photos/disc/0000.jpg",)),
    ]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["hat|red", "shoes|red", "hat"], ("hat|red", "shoes|red")),
        (["a,b", "b,c", "c", "b"], ()),
        (["a,b", "b,c", "c"], ("a,b", "b,c")),
        (["hat|red", "hat|blue", "shoes|red", "shoes|blue"], ("hat|blue", "hat|red", "shoes|blue", "shoes|red")),
        (["animal", "animal|cat", "animal|dog", "animal|cat|lynx"], ("animal|cat", "animal|cat|lynx", "animal|dog")),
        (["red, white", "white, red", "red, black"], ("red, black", "red, white", "white, red")),
        (["red, red", "red, black", "black, white", "red, white"], ("black, white", "red, black", "red, white")),
        (["0,5", "5,10", "10,15", "15,20", "20,25"], ("0,5", "10,15", "15,20", "20,25", "5,10")),
        (["red/white", "AT-AT|x", "black, shiny"], ()),
        (["great white shark, white shark", "tench, Tinca tinca", "crane, bird", "crane"], ()),
        (["Smith, John", "Doe, Jane", "Roe, Ann"], ()),
        (["red", "hat|", "|shoes"], ()),
        (["pepper, bell", "apple", "cherry"], ()),
    ],
)
def test_several_labels_in_one_are_told(folder: Path, labels: list[str], told: tuple[str, ...]) -> None:
    rows = [(f"{i}.jpg", f'"{label}"') for i, label in enumerate(labels)]
    images = data.open(write_csv(folder / "list.csv", rows, "path,label"))
    assert set(images.classes) == set(labels)
    assert [finding.paths for finding in images.ignored if finding.kind == "several-labels"] == [told] * bool(told)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["cat|dog", "cat|bird", "dog|bird"], 'separated by "|", such as "cat|bird"'),
        (["hat; red", "shoes;red", "hat;red;shoes"], 'separated by ";", such as "hat; red"'),
        (["cat", "dog", "cat,dog", "dog,fox", "cat,dog,fox", "cat,fox"], 'separated by ",", such as "cat,dog"'),
        (["3|7", "7", "1|3", "1|7", "1|3|7"], 'separated by "|", such as "1|3"'),
    ],
)
def test_lists_of_labels_are_refused(folder: Path, labels: list[str], said: str) -> None:
    rows = [(f"{i}.jpg", f'"{label}"') for i, label in enumerate(labels)]
    told = refusal(write_csv(folder / "list.csv", rows, "path,label"))
    assert f"list.csv gives images several labels, {said}; saccade needs one label an image: keep one, or write" in told


def test_npz(tmp_path: Path) -> None:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=x_NHWC, labels=[1, 0, 1, 0], classes=["cat", "dog"])
    images = data.open(tmp_path / "a.npz")
    assert images.classes == ("cat", "dog")
    assert images.labels_N.tolist() == [1, 0, 1, 0]
    assert images.keys == ("a/0", "a/1", "a/2", "a/3")
    assert all(np.array_equal(images.pixels.read(f"a/{i}"), x_NHWC[i]) for i in range(4))
    assert images.pixels.sizes(images.keys).tolist() == [[5, 6]] * 4


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.full((2, 4, 4), 9, np.int64), 9),
        (np.full((2, 4, 4, 1), True), 255),
        (np.full((2, 4, 4, 3), 0.2, np.float32), 51),
        (np.full((2, 4, 4), 200.4), 200),
        (np.full((2, 4, 4), 257 * 7, np.uint16), 7),
        (np.full((2, 4, 4, 4), 51, np.uint8), 214),  # 0.2 of 51 on 0.8 of white
    ],
)
def test_arrays_of_any_type_become_rgb(x: NDArray[Any], expected: int) -> None:
    images = data.from_arrays(x, ["a", "b"], name="these")
    assert images.keys == ("these/0", "these/1")
    assert images.pixels.squares(images.keys, 4).tolist() == np.full((2, 4, 4, 3), expected).tolist()


def test_large_arrays_are_kept_as_the_mean_of_squares() -> None:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (2, 600, 600, 3), dtype=np.uint8)
    images = data.from_arrays(x_NHWC, ["a", "b"])
    kept = images.pixels.read("arrays/0")
    assert np.abs(kept - x_NHWC[0].reshape(300, 2, 300, 2, 3).mean(axis=(1, 3))).max() <= 0.5
    assert images.pixels.sizes(["arrays/0"]).tolist() == [[600, 600]]


def test_labels_of_arrays_may_be_names_numbers_or_whole_floats() -> None:
    x_NHW = np.zeros((3, 4, 4), np.uint8)
    assert data.from_arrays(x_NHW, ["b", "a", "b"]).labels_N.tolist() == [1, 0, 1]
    names = np.array(["dog", "a longer name", "dog"], object)  # as a table's column of text is
    for column in (names, names[:, None]):
        images = data.from_arrays(x_NHW, column)
        assert (images.classes, images.labels_N.tolist()) == (("a longer name", "dog"), [1, 0, 1])
    assert data.from_arrays(x_NHW, [[10], [9], [10]]).classes == ("9", "10")
    assert data.from_arrays(x_NHW, np.array([1.0, 2.0, 1.0])).classes == ("1", "2")
    assert data.from_arrays(x_NHW, np.array([b"b", b"a", b"b"])).classes == ("a", "b")
    assert data.from_arrays(x_NHW, np.array([True, False, True])).classes == ("0", "1")
    ends = np.array([-(2.0**63), 0, -(2.0**63)])
    assert data.from_arrays(x_NHW, ends).classes == ("0", "-9223372036854775808")
    named = data.from_arrays(x_NHW, [2, 0, 2], classes=["z", "y", "x"])
    assert (named.classes, named.labels_N.tolist()) == (("x", "z"), [0, 1, 0])


@pytest.mark.parametrize(
    ("x", "labels", "sentence"),
    [
        (np.zeros((4, 4)), [0, 1], "have the shape (4, 4); expected (N, H, W) or (N, H, W, 1, 3 or 4)."),
        (np.zeros((2, 4, 4, 2)), [0, 1], "have the shape (2, 4, 4, 2)"),
        (np.zeros((2, 0, 4)), [0, 1], "there are no pixels in them"),
        (np.zeros((2, 4, 4), complex), [0, 1], "are of type complex128; expected whole numbers or floats"),
        (np.full((2, 4, 4), np.nan), [0, 1], "hold values that are not finite numbers"),
        (np.zeros((2, 4, 4)), [0, 1, 2], "has 2 images and 3 labels"),
        (np.zeros((2, 4, 4)), [[0, 1], [1, 1]], "saccade needs one label an image: N names or numbers"),
        (np.zeros((2, 4, 4)), [0.5, 1], "The labels of arrays hold 0.5, which is no whole number of 64 bits; expected"),
        (np.zeros((2, 4, 4)), [0, np.nan], "hold nan, which is no whole number"),
        (np.zeros((2, 4, 4)), [0, np.inf], "hold inf, which is no whole number"),
        (np.zeros((2, 4, 4)), [0, 1e30], "hold 1e+30, which is no whole number"),
        (np.zeros((2, 4, 4)), [0, 2.0**63], "hold 9.223372036854776e+18, which is no whole number"),
        (np.zeros((2, 4, 4)), np.array([0, 2**63], np.uint64), "hold 9223372036854775808, which is no whole number"),
        (np.zeros((2, 4, 4)), ["a", None], "are of type object; expected names or whole numbers"),
        (np.zeros((2, 4, 4)), ["a", " "], "A class of arrays has an empty name; give each class a name of its own."),
        (np.zeros((2, 3, 5, 5)), [0, 1], "The channels seem to come first: give x.transpose(0, 2, 3, 1)."),
    ],
)
def test_wrong_arrays_get_a_clear_sentence(x: NDArray[Any], labels: list[object], sentence: str) -> None:
    with pytest.raises(SourceError) as caught:
        data.from_arrays(x, labels)  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_classes_that_do_not_fit_the_labels_are_refused() -> None:
    x_NHW = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(SourceError, match=r"go from 0 to 2, but it names 2 classes; expected 0 to 1\."):
        data.from_arrays(x_NHW, [0, 2], classes=["a", "b"])
    with pytest.raises(SourceError, match='The label "c" of arrays is not among its classes: a, b'):
        data.from_arrays(x_NHW, ["a", "c"], classes=["a", "b"])


def test_classes_of_arrays_have_names_of_their_own(tmp_path: Path) -> None:
    x_NHW = np.zeros((3, 4, 4), np.uint8)
    for twice in (["u", "u", "w"], ["caf\u00e9", "w", "cafe\u0301"]):
        with pytest.raises(SourceError, match=r'The classes of arrays name "(u|café)" 2 times; give each class a name'):
            data.from_arrays(x_NHW, [0, 1, 2], classes=twice)
    with pytest.raises(SourceError, match="A class of arrays has an empty name"):
        data.from_arrays(x_NHW, [1, 2, 1], classes=["", "b", "c"])
    np.savez(tmp_path / "bytes.npz", images=x_NHW, labels=[0, 1, 0], classes=np.array([b"u", b"v"]))
    assert data.open(tmp_path / "bytes.npz").classes == ("u", "v")


def test_spellings_of_one_class_of_arrays_are_told_as_those_of_folders_are() -> None:
    x_NHW = np.zeros((3, 4, 4), np.uint8)
    composed = data.from_arrays(x_NHW, ["caf\u00e9", "cafe\u0301", "tea"])
    assert (composed.classes, composed.labels_N.tolist()) == (("café", "tea"), [0, 0, 1])
    for images in (
        data.from_arrays(x_NHW, ["Cat", "cat", "dog"]),
        data.from_arrays(x_NHW, [0, 1, 2], classes=["Cat", "cat", "dog"]),
    ):
        assert images.classes == ("Cat", "cat", "dog")
        (told,) = images.ignored
        assert (told.kind, told.severity, told.paths) == ("class-name", "warning", ("Cat", "cat"))


def test_wrong_npz_files_get_a_clear_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    assert refusal(tmp_path / "a.npz").endswith(
        "a.npz lacks the arrays images and labels; found: x. Name what is there so, by numpy.savez(path, images=x, "
        "labels=y)."
    )
    np.savez(tmp_path / "b.npz", images=np.array([None, 1], dtype=object), labels=[0, 1])
    assert refusal(tmp_path / "b.npz").endswith(
        "b.npz are Python objects, which are not unpickled for safety; where they differ in size, give a folder of "
        "image files instead."
    )
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 4, 4)), labels=np.array(["a", "b"], dtype=object))
    assert refusal(tmp_path / "b.npz").endswith("not unpickled for safety; save labels.astype(str).")
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 4, 4)), x=np.zeros(2))
    assert "b.npz lacks the array labels; found: images, x." in refusal(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"PK\3\4")
    assert "cannot be read as .npz arrays" in refusal(tmp_path / "c.npz")
    noise = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez_compressed(tmp_path / "c.npz", images=noise, labels=np.arange(40) % 2)
    whole = (tmp_path / "c.npz").read_bytes()
    said = []
    for place in range(40, 240, 7):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        (tmp_path / "c.npz").write_bytes(damaged)
        try:  # and no other error; what matters to none of the arrays is read
            data.open(tmp_path / "c.npz", DataSettings())
        except SourceError as error:
            said.append(str(error))
    assert sum("c.npz cannot be read as .npz arrays" in sentence for sentence in said) > 20
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 4, 4)), labels=[0, 0])
    assert 'has one class only, "0"' in refusal(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", images=np.zeros((2, 4, 4)), labels=[0, 1, 1])
    assert refusal(tmp_path / "e.npz").startswith(f"{tmp_path / 'e.npz'} has 2 images and 3 labels; expected one label")
    np.savez(tmp_path / "f.npz", images=np.full((2, 4, 4), np.nan), labels=[0, 1])
    assert refusal(tmp_path / "f.npz").startswith(f"The images of {tmp_path / 'f.npz'} hold values that are not finite")


def test_arrays_larger_than_memory_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", b"")
        archive.infolist()[0].file_size = 2**50
    assert re.search(
        r"a\.npz unpacks to 1,048,576\.0 GiB of arrays, and [0-9,.]+ GiB of memory are free; give a folder of image "
        r"files instead\.$",
        refusal(tmp_path / "a.npz"),
    )


def test_an_array_that_claims_a_shape_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    claim: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000, 3)}
    np.lib.format.write_array_header_1_0(header := io.BytesIO(), claim)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100))
    assert refusal(tmp_path / "a.npz").endswith(
        "a.npz cannot be read as .npz arrays: one claims a shape beyond all memory."
    )


def test_digits_are_scikit_learns() -> None:
    images, digits = data.open("digits"), load_digits()
    assert len(images) == 1797
    assert images.classes == tuple("0123456789")
    assert images.labels_N.tolist() == digits.target.tolist()
    x_NHWC = images.pixels.squares(images.keys, 8)
    assert np.array_equal(x_NHWC[..., 0], np.rint(digits.images * 255 / 16))
    assert set(images.given_parts) == {None}


def write_idx(path: Path, values: NDArray[Any]) -> None:
    """Write an array of bytes in the format of the MNIST files."""
    path.write_bytes(
        struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    )


def test_a_named_data_set_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # MNIST's files are checked by name alone, so that a tiny cache can be made here; CIFAR's have checksums.
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    raw = tmp_path / "datasets" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    x_NHW, y_N = rng.integers(0, 256, (15, 28, 28)), np.arange(15) % 10
    write_idx(raw / "train-images-idx3-ubyte", x_NHW[:10])
    write_idx(raw / "train-labels-idx1-ubyte", y_N[:10])
    write_idx(raw / "t10k-images-idx3-ubyte", x_NHW[10:])
    write_idx(raw / "t10k-labels-idx1-ubyte", y_N[10:])
    images = data.open("MNIST")
    assert images.given_parts == ("train",) * 10 + ("test",) * 5
    assert images.classes[:2] == ("0 - zero", "1 - one")
    assert images.labels_N.tolist() == y_N.tolist()
    assert np.array_equal(images.pixels.squares(images.keys, 28)[..., 2], x_NHW)
    assert images.keys[0] == "train/0"


@pytest.mark.parametrize("name", ["cifar10", "svhn", "fashion-mnist", "stl10"])
def test_without_network_and_cache_one_sentence_names_the_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens there
    for proxy in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    begun = time.monotonic()
    sentence = refusal(name)
    assert time.monotonic() - begun < 10
    assert sentence.startswith(
        f'The data set "{name}" is not on this machine and cannot be downloaded (no connection to http'
    )
    assert sentence.endswith(f"put torchvision's files of it into {tmp_path / 'datasets' / name}.")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    raw = tmp_path / "datasets" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"\0\0\x08\x01\0\0")
    assert f"The cached data set in {tmp_path / 'datasets' / 'mnist'} is damaged" in refusal("mnist")


def test_every_named_data_set_is_one_of_torchvisions() -> None:
    import torchvision.datasets

    from saccade.data.named import NAMED

    assert list(data.known_datasets()) == ["digits", *NAMED]
    assert all(hasattr(torchvision.datasets, entry.factory) for entry in NAMED.values())


def test_memory_is_bounded_and_changes_no_pixel() -> None:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(200) % 2
    roomy, tight, none = (
        data.integrity(data.from_arrays(x_NHWC, labels, settings=DataSettings(memory=memory)))
        for memory in (1.0, 100_000 / 2**30, 0)
    )
    assert sum(x.nbytes for x in tight.pixels._store.kept.values()) == 100_000 // 3072 * 3072
    assert len(none.pixels._store.kept) == 0
    assert roomy.hashes() == tight.hashes() == none.hashes()
    for images in (roomy, tight, none):
        assert np.array_equal(images.pixels.squares(images.keys, 32), x_NHWC)


def test_a_repeated_row_keeps_its_group_and_one_without_a_label_counts_for_nothing(folder: Path) -> None:
    rows = [
        ("photos/disc/0000.jpg", "", "", ""),
        ("photos/disc/0000.jpg", "disc", "", ""),
        ("photos/disc/0000.jpg", "disc", "", "p7"),
        ("photos/square/0000.jpg", "square", "", ""),
    ]
    images = data.open(write_csv(folder / "some.csv", rows))
    assert dict(zip(images.keys, images.groups, strict=True))["photos/disc/0000.jpg"] == "p7"
    assert images.classes == ("disc", "square")
    other = write_csv(folder / "other.csv", [*rows, ("photos/disc/0000.jpg", "disc", "", "p8")])
    assert 'puts "photos/disc/0000.jpg" into two groups' in refusal(other)


def test_text_that_a_table_keeps_as_bytes_is_text(folder: Path) -> None:
    columns = {"path": [row[0].encode() for row in ROWS[:4]], "label": [row[1].encode() for row in ROWS[:4]]}
    pq.write_table(
        pa.table({name: pa.array(each, pa.binary()) for name, each in columns.items()}), folder / "b.parquet"
    )
    images = data.integrity(data.open(folder / "b.parquet"))
    assert (len(images), images.classes) == (4, ("disc", "square"))
