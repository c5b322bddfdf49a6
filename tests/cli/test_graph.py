"""`saccade graph`: a table, a picture, JSON; refusals of one sentence that write nothing."""

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file

from saccade.cli.app import main
from tests.cli.conftest import draw
from tests.conftest import Saccade

NETWORK = """
from torch import nn
network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4), nn.ReLU(), nn.Linear(4, 3))
def broken(): return nn.Linear(5, 3)
def leaves(): raise SystemExit(3)
def maps(): return nn.Conv2d(3, 4, 1)
number = 3
"""


def test_an_expression(tmp_path: Path, saccade: Saccade) -> None:
    done = saccade("graph", "(x+y)*z", "x=-2", "y=5", "z=-4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(x+y)*z = −12" in done.stdout
    assert "#1 = x + y" in done.stdout
    assert "holds on 4 edges" in done.stdout
    [picture] = tmp_path.rglob("*.*")
    assert picture.match("runs/*-graph/graph.html")
    assert "made by saccade graph" in picture.read_text(encoding="utf-8")[:500]


@pytest.mark.parametrize("columns", [30, 60, 90])
def test_no_number_is_broken_on_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["graph", "x*y", "x=1.234", "y=-6.789", "--out", "a.svg"]) == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert {"1.234", "−6.789", "−8.378"} <= {word.removesuffix(";") for word in words}


def test_json_and_an_older_picture_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["graph", "-x*y", "x=1", "y=2", "--out", "older.html", "--json"]) == 0
        value = json.loads(capsys.readouterr().out)
    assert value["inputs"]["x"]["gradient"]["values"] == -2.0
    assert [step["operation"] for step in value["steps"]] == ["neg", "mul"]


def test_a_network_of_ones_own_with_an_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    draw(tmp_path / "photo.png", (90, 140, 220), 0)
    options = ["--image", "photo.png", "--size", "8", "--out", "net.svg", "--json"]
    assert main(["graph", "--model", "net.py:network", *options]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["verdict"]["state"] == "healthy"
    assert "1 (Linear)" in value["verdict"]["sentences"][0]
    assert (tmp_path / "net.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_network_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "digits", "--model", "mlp", "--size", "8", "--epochs", "0.2", "--width", "0.1"]
    assert main([*arguments, "--out", "trained"]) == 0
    capsys.readouterr()
    assert main(["graph", "--model", "run/trained", "--json"]) == 0
    inputs = json.loads(capsys.readouterr().out)["inputs"]
    kernels = {name: each["value"] for name, each in inputs.items() if each["kind"] == "parameter"}
    with safe_open("trained/model/model.safetensors", "pt") as saved:
        for name, value in kernels.items():
            assert value["norm"] == pytest.approx(float(saved.get_tensor(f"0.body.{name}").norm()), rel=1e-5)
    assert len(kernels) > 3
    assert next(each for each in inputs.values() if each["kind"] == "input")["value"]["shape"] == [8, 3, 8, 8]


def test_the_network_whose_weights_are_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    network = torchvision.models.squeezenet1_1(num_classes=7)
    save_file(network.state_dict(), "mine.safetensors")
    assert main(["graph", "--model", "file/mine.safetensors", "--size", "64", "--batch-size", "2", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    for name, parameter in network.named_parameters():
        assert value["inputs"][name]["value"]["norm"] == pytest.approx(parameter.detach().norm().item(), rel=1e-4)


def test_one_of_saccades_own_by_its_whole_name_sees_images_of_32_px(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["graph", "--model", "saccade/linear", "--batch-size", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"]["x"]["value"]["shape"] == [2, 3, 32, 32]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["graph"], ["needs an expression"]),
        (["graph", "x", "--modle"], ['no option "--modle"', 'Did you mean "--model"?']),
        (["graph", "x", "y"], ['"y" is no value for a name', "x=2"]),
        (["graph", "x", "x=1", "x=2"], ['"x" has two values, 1 and 2']),
        (["graph", "x", "--model", "mlp"], ["not both"]),
        (["graph", "(x", "x=1"], ["character 1"]),
        (["graph", "x+*y", "x=1"], ['before "*" at character 3']),
        (["graph", "x", "x=1", "--out", "a.png"], ["must end in .html or .svg"]),
        (["graph", "x", "x=1", "--out", "/proc/a.svg"], ["--out /proc/a.svg cannot be written: "]),
        (["graph", "x", "x=1", "--out", "no/a.svg"], ["there is no such folder"]),
        (["graph", "x", "x=1", "--out", "mine.svg"], ["is no picture of `saccade graph`"]),
        (["graph", "x*x", "x=1", "--unfold", "foo"], ['nothing called "foo" to unfold']),
        (["graph", "--model", "mpl"], ['no network "mpl"', 'Did you mean "mlp"?']),
        (["graph", "--model", "mlp", "--classes", "0"], ["must be at least 1"]),
        (["graph", "--model", "mlp", "--size", "0"], ["--size must be at least 1"]),
        (["graph", "--model", "mlp", "--size", "1000000"], ["not enough memory", "give a smaller --size"]),
        (["graph", "--model", "mlp", "--image", "nowhere.png"], ["nowhere.png cannot be read as an image"]),
        (["graph", "--model", "net.py"], ["must name a file and what is in it"]),
        (["graph", "--model", "net.py:nothing"], ['has no network "nothing"']),
        (["graph", "--model", "net.py:leaves"], ["net.py failed with SystemExit: 3."]),
        (["graph", "--model", "run/nowhere"], ["nowhere"]),
        (["graph", "--model", "file/nowhere.pt"], ["nowhere.pt", "does not exist"]),
        (["graph", "--model", "net.py:number"], ["failed with TypeError"]),
        (["graph", "--model", "net.py:maps"], ["must give scores (images, classes), one tensor of two dimensions"]),
        (["graph", "--model", "net.py:broken"], ["failed on 8 images of 32 x 32 (RuntimeError: "]),
    ],
)
def test_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    words: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.svg").write_text("<svg/>", encoding="utf-8")
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for word in words:
        assert word in said.err.strip().splitlines()[-1]
    assert not (tmp_path / "runs").exists()
