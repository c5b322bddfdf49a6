"""Help and version: complete, and there at once."""

import subprocess
import sys

import pytest

from saccade.cli.app import COMMANDS
from saccade.settings import AuditSettings, DataSettings, FitSettings, TrainSettings
from tests.conftest import Saccade

HEAVY = "{'torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'matplotlib', 'numba', 'numpy', 'pandas'}"


def test_help_lists_every_command(saccade: Saccade) -> None:
    done = saccade("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in COMMANDS:
        assert f" {command} " in done.stdout


def test_no_command_is_help(saccade: Saccade) -> None:
    assert saccade().stdout == saccade("--help").stdout


def test_version(saccade: Saccade) -> None:
    assert saccade("--version").stdout == "0.1.0\n"


def test_of_several_values_only_the_command_that_trains_with_each_tells(saccade: Saccade) -> None:
    told = {command: "key=a,b" in saccade(command, "--help").stdout for command in ("train", "check")}
    assert told == {"train": True, "check": False}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_help(saccade: Saccade, command: str) -> None:
    done = saccade(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert f"Usage: saccade {command}" in done.stdout


@pytest.mark.parametrize(
    ("command", "settings"), [("audit", AuditSettings), ("fit", FitSettings), ("train", TrainSettings)]
)
def test_every_setting_is_an_option(saccade: Saccade, command: str, settings: type[DataSettings]) -> None:
    shown = saccade(command, "--help").stdout
    for name, field in settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert field.description is not None
        assert field.description.split()[0] in shown


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["fit", "--help"], ["train", "--help"], ["fit", "-q"]]
)
def test_answers_without_heavy_imports(arguments: list[str]) -> None:
    code = f"import sys; from saccade.cli import main; main({arguments}); print({HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr
