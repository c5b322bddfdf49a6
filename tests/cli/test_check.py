"""`saccade check`: a source and a network before training; a layer of one's own; every refusal a sentence."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from saccade.cli.app import main
from saccade.errors import ModelError
from saccade.recipe.checking import check
from saccade.settings import TrainSettings
from tests.conftest import Saccade

RIGHT = """
def product_forward(x, w):
    return x @ w, (x, w)

def product_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout
"""
WRONG = RIGHT.replace("x.T @ dout", "0.9 * x.T @ dout")
KINKED = """
import numpy as np

inputs = [np.array([[0.0, -1.0, 2.0], [0.0, 0.5, -3.0]])]

def forward(x):
    return np.maximum(x, 0), x

def backward(dout, cache):
    return dout * (cache > 0)
"""


@pytest.fixture
def layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file to write a layer to, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "layer.py"


def test_a_right_layer_passes(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer.write_text(RIGHT)
    assert main(["check", "--layer", "layer.py", "4x5", "5x3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("passed  product: ")
    assert lines[0].endswith("35 numbers of 2 tensors")
    assert lines[1] == "1 of 1 passed"


def test_a_wrong_layer_fails_and_the_gradient_is_shown(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer.write_text(WRONG)
    assert main(["check", "--layer", "layer.py", "4x5", "5x3"]) == 0
    out = capsys.readouterr().out
    assert "FAILED  product: 0.1 at the most, in input 2" in out
    assert "The backward is wrong: for input 2 it gives " in out
    assert main(["check", "--layer", "layer.py", "4x5", "5x3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["passed"] for row in told["checks"]] == [False]
    assert [row["verdict"] for row in told["gradients"]] == ["fine", "wrong"]
    assert told["gradients"][1]["error"] == pytest.approx(0.1)


def test_a_kink_is_no_error(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer.write_text(KINKED)
    assert main(["check", "--layer", "layer.py"]) == 0
    assert "4 numbers of 1 tensor, 2 more on kinks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("", "", "Give either a source of images to check a network on, or --layer FILE.py to check a layer."),
        ("digits --layer layer.py", "", "Give either a source of images"),
        ("--layer layer.py 4y5", RIGHT, '"4y5" is not a shape; expected whole numbers such as 4x5.'),
        ("--layer layer.py 4x0", RIGHT, '"4x0" is not a shape'),
        ("--layer layer.py 4x5", RIGHT, "product in layer.py failed on inputs of shape (4, 5) (TypeError: "),
        ("--layer layer.py 4x5 4x3", RIGHT, "failed on inputs of shape (4, 5), (4, 3) (ValueError: "),
        ("--layer layer.py", RIGHT, "layer.py does not say what product takes; give the shapes"),
        ("--layer layer.py 3", "x = 1", "layer.py defines no layer; expected are functions forward(*inputs)"),
        ("--layer layer.py 3", "def f(:", "layer.py failed with SyntaxError: "),
        ("--layer nowhere.py 3", "", "nowhere.py is not a Python file"),
        ("--layer", "", "--layer"),
        ("nowhere", "", "nowhere"),
        ("digits --model convent", "", '"convent"'),
        ("digits --device tpu9", "", '"tpu9"'),
        ("digits --budget soon", "", '"soon"'),
    ],
)
def test_a_refusal_is_one_sentence(
    layer: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: str, words: str
) -> None:
    layer.write_text(code)
    assert main(["check", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("saccade: ")
    assert words in said.err.splitlines()[-1]
    assert {each.name for each in layer.parent.iterdir()} <= {"layer.py", "__pycache__"}


def test_a_source_leaves_a_page(photos: Path, saccade: Saccade) -> None:
    out = photos.parent / "checked"
    done = saccade("check", photos, "--model", "mlp", "--budget", "1h", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["name"] for row in told["checks"] if not row["passed"]] == []
    assert {"initial loss", "gradients", "overfit a handful", "every layer learns"} <= {
        row["name"] for row in told["checks"]
    }
    page = (out / "report.html").read_text()
    assert "Training may start" in page
    assert "Images as the network sees them" in page
    assert told == json.loads((out / "checks.json").read_text())


def test_what_there_was_no_time_for_is_named_everywhere(photos: Path, saccade: Saccade) -> None:
    out = photos.parent / "checked"
    done = saccade("check", photos, "--model", "mlp", "--budget", "0.1s", "--out", out)
    assert done.returncode == 0, done.stderr
    told = json.loads((out / "checks.json").read_text())
    assert told["left_out"] == ["cost of a step", "learning rate", "overfit a handful", "inputs matter", "gradients"]
    assert told["rates"] is None
    names = ", ".join(told["left_out"])
    assert f"Left out for lack of time: {names}; give a longer --budget than 0.1 s" in done.stdout
    assert f"{len(told['checks'])} of {len(told['checks'])} passed, 5 left out for lack of time" in done.stderr
    page = (out / "report.html").read_text()
    assert f"Left out for lack of time: {names}. Give a longer <code>--budget</code>" in page
    assert "Training may start" not in page


def test_a_pretrained_network_is_checked_as_it_would_be_trained(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "elsewhere.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=1000).state_dict(), weights)
    told = check(photos, TrainSettings(pretrained=str(weights), budget=60, size=64, device="cpu"), out=tmp_path / "out")
    assert told["model"] == "timm/test_resnet"
    [gradients] = [row for row in told["checks"] if row["name"] == "gradients"]
    assert gradients["passed"], gradients
    with pytest.raises(ModelError, match="The setting frozen is for pretrained networks alone"):
        check(photos, TrainSettings(frozen=0.5), out=tmp_path / "no")
