"""Tables on a terminal: as wide as it is where that breaks no word, else one thing under another."""

import pytest

from saccade.cli.text import table

HEADER = ["Layer", "Output", "Parameters", "What it is"]
ROWS = [
    ["stages.0.first", "64 x 32 x 32", "1,572,864", "a convolution with 3 x 3 kernels"],
    ["宽head", "10", "12", ""],
]


def drawn(monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return table(HEADER, ROWS, right=["Output", "Parameters"]).splitlines()


def test_with_room_a_row_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, 200) == [
        "Layer                 Output  Parameters  What it is",
        "stages.0.first  64 x 32 x 32   1,572,864  a convolution with 3 x 3 kernels",
        "宽head                    10          12",
    ]


@pytest.mark.parametrize("columns", range(47, 80))
def test_a_narrow_table_is_broken_between_words(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    lines = drawn(monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    words = [word for line in lines for word in line.split()]
    assert sorted(words) == sorted(word for row in (HEADER, *ROWS) for cell in row for word in cell.split())


@pytest.mark.parametrize("columns", range(42, 47))
def test_a_narrower_one_between_the_parts_of_names(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    lines = drawn(monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    assert {line[:9].rstrip() for line in lines} >= {"stages.0.", "first", "宽head"}
    assert any("1,572,864" in line for line in lines)
    assert any("convolution" in line for line in lines)


def test_where_the_words_do_not_fit_side_by_side_cells_lie_under_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, 40) == [
        "Layer",
        "stages.0.first",
        "  Output: 64 x 32 x 32",
        "  Parameters: 1,572,864",
        "  What it is: a convolution with 3 x 3 kernels",
        "宽head",
        "  Output: 10",
        "  Parameters: 12",
    ]
