"""docs/notes.md keeps every row of the lecture notes, and names only what exists."""

import ast
import re
from pathlib import Path

import pytest

from saccade.cli.app import COMMANDS
from saccade.settings import (
    AuditSettings,
    BaselineSettings,
    FitSettings,
    SearchSettings,
    TrainSettings,
    TransferSettings,
)

ROOT = Path(__file__).parents[1]
ROWS, CHECKS = (
    [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if re.match(r"\| \d+ \|", line)
    ]
    for table in (ROOT / "docs" / "notes.md").read_text(encoding="utf-8").split("## What checks it")
)
SETTINGS = (AuditSettings, BaselineSettings, FitSettings, SearchSettings, TrainSettings, TransferSettings)
OPTIONS = {f"--{name.replace('_', '-')}" for settings in SETTINGS for name in settings.model_fields}


def test_every_row_of_the_notes_stands_there_once() -> None:
    for table in (ROWS, CHECKS):
        assert [int(row[0]) for row in table] == list(range(1, 40))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_shows_what_exists_or_names_the_issue(row: list[str]) -> None:
    _, _, state, code, shown, missing = row
    assert state in ("there", "partly", "open")
    if state == "open":
        assert (code, shown) == ("", "")
    else:
        assert code
        assert shown
    if state != "there":
        assert re.search(r"issues? \d", missing)
    for path in re.findall(r"`([^`]*)`", code):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"`(saccade [^`]*)`", shown):
        assert command.split()[1] in COMMANDS
        assert set(re.findall(r"--[a-z-]+", command)) <= OPTIONS | {"--json", "--layer", "--set", "--from"}


@pytest.mark.parametrize("row", CHECKS, ids=lambda row: row[0])
def test_what_checks_a_row_exists(row: list[str]) -> None:
    groups = [re.findall(r"`([^`]*)`", group) for group in row[1].split("; ")]
    assert groups
    for file, *names in groups:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert names
        assert set(names) <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, file
