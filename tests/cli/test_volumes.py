"""`saccade volumes` of networks that are made already: a run's, and one whose weights are in a file."""

import json
from pathlib import Path

import pytest
import torchvision
from safetensors.torch import save_file

from saccade.cli.app import main


def test_a_runs_network_is_shown_as_the_run_left_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "mlp", "--size", "8", "--epochs", "0.2", "--width", "0.1", "--norm", "none"]
    assert main(["train", "digits", *arguments, "--out", "my run", "--json"]) == 0
    capsys.readouterr()
    assert main(["volumes", "run/my run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["size"]) == ("run/my run", 8)
    assert [layer["output"] for layer in told["layers"] if layer["kind"] == "Linear"] == [[51], [51], [10]]
    assert told["totals"]["parameters"] == 192 * 51 + 51 + 51 * 51 + 51 + 51 * 10 + 10
    assert main(["volumes", "run/my run", "--set", "width=2"]) == 2
    assert "run/my run is a network that is made already" in capsys.readouterr().err


def test_the_network_whose_weights_are_in_a_file_has_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = torchvision.models.squeezenet1_1(num_classes=7)
    save_file(network.state_dict(), "mine.safetensors")
    assert main(["volumes", "file/mine.safetensors", "--size", "64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["size"] == 64
    assert told["totals"]["parameters"] == sum(parameter.numel() for parameter in network.parameters())
