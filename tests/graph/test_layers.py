"""A student's file: each way to write a layer is found and checked, each mistake gets its sentence."""

from pathlib import Path

import pytest

from saccade.errors import ModelError
from saccade.graph.layers import check_layers

NUMPY = """
import numpy as np
inputs = {"affine": [(4, 5), (5, 3), (3,)], "relu": [(4, 5)], "dropout": [np.ones((6, 7))]}

def affine_forward(x, w, b):
    return x @ w + b, (x, w)

def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, FACTOR * dout.sum(0)

def relu_forward(x):
    return np.maximum(x, 0), x

def relu_backward(dout, x):
    return dout * (x > 0)

def dropout_forward(x):
    mask = np.random.rand(*x.shape) < 0.5
    return x * mask, mask

def dropout_backward(dout, mask):
    return dout * mask
"""

ONE_WRONG = """
def forward(x, w):
    return x @ w, (x, w)

def backward(dout, cache):
    x, w = cache
    dx = dout @ w.T
    dx[2, 3] = 0
    return dx, x.T @ dout
"""

TORCH = """
import torch
inputs = [(4, 5)]

class Square(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x ** 2

    @staticmethod
    def backward(context, dout):
        return FACTOR * context.saved_tensors[0] * dout

class Squared(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(5))

    def forward(self, x):
        return Square.apply(x * self.scale)

class Scaled(torch.nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return self.by * x

layer = Scaled(3.0)
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.py"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(("factor", "verdict"), [("1", "fine"), ("2", "wrong")])
def test_numpy_layers_as_students_write_them(tmp_path: Path, factor: str, verdict: str) -> None:
    found = check_layers(written(tmp_path, NUMPY.replace("FACTOR", factor)))
    assert {name: each.verdict for name, each in found.items()} == {
        "affine": verdict, "dropout": "fine", "relu": "fine"
    }  # fmt: skip
    assert [each.verdict for each in found["affine"].tensors] == ["fine", "fine", verdict]
    assert found["dropout"].random


@pytest.mark.parametrize(("factor", "verdict"), [("2", "fine"), ("3", "wrong")])
def test_functions_and_modules_of_pytorch(tmp_path: Path, factor: str, verdict: str) -> None:
    found = check_layers(written(tmp_path, TORCH.replace("FACTOR", factor)))
    assert {name: each.verdict for name, each in found.items()} == {
        "Square": verdict, "Squared": verdict, "layer": "fine"
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_one_wrong_number_of_a_small_tensor_is_found(tmp_path: Path, seed: int) -> None:
    file = written(tmp_path, ONE_WRONG)
    found = check_layers(file, [(4, 5), (5, 3)], seed=seed)["mine"]
    assert [(each.verdict, each.compared) for each in found.tensors] == [("wrong", 20), ("fine", 15)]
    large = check_layers(file, [(40, 50), (50, 3)], seed=seed)["mine"]
    assert [each.compared for each in large.tensors] == [32, 150]


def test_shapes_given_take_the_place_of_the_files(tmp_path: Path) -> None:
    plain = "def forward(x):\n    return 2 * x, None\n\ndef backward(dout, cache):\n    return 2 * dout\n"
    found = check_layers(written(tmp_path, plain), [(2, 3)])
    assert found["mine"].tensors[0].shape == (2, 3)
    assert found["mine"].passed


PAIR = "def forward(x):\n    {}\n\ndef backward(dout, cache):\n    {}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "defines no layer; expected are functions forward(*inputs), which returns (out, cache), and"),
        ("import nowhere_at_all", "failed with ModuleNotFoundError: No module named 'nowhere_at_all'."),
        ("def forward(x:", "mine.py failed with SyntaxError: "),
        (
            PAIR.format("return x, 0", "return dout"),
            "does not say what mine takes; give the shapes, as in",
        ),
        ("inputs = ['4x5']\n" + PAIR.format("return x, 0", "return dout"), "hold '4x5'; expected are shapes such as"),
        (
            "inputs = [(2, 3)]\n" + PAIR.format("return x", "return dout"),
            "The forward of mine returned no (out, cache)",
        ),
        (
            "inputs = [(2, 3)]\n" + PAIR.format("return x, 0", "return dout, dout"),
            "The backward of mine returned 2 gradients for 1 inputs.",
        ),
        (
            "inputs = [(2, 3)]\n" + PAIR.format("return x, 0", "return dout[0]"),
            "The backward of mine returned a gradient of shape (3,) for input 1, whose shape is (2, 3).",
        ),
        (
            "inputs = [(2, 3), (2,)]\n" + PAIR.format("return x, 0", "return dout"),
            "failed on inputs of shape (2, 3), (2,) (TypeError: forward() takes 1 positional argument but 2 were",
        ),
        (
            "import torch\nclass Mine(torch.nn.Module):\n    def __init__(self, n):\n        super().__init__()\n",
            "cannot be made without arguments",
        ),
    ],
)
def test_what_cannot_be_checked_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_layers(written(tmp_path, text))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["weights.pt", "missing.py"])
def test_only_code_is_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "weights.pt").write_bytes(b"not code")
    with pytest.raises(ModelError, match=r"is not a Python file; expected is a file of code such as layer\.py\.$"):
        check_layers(tmp_path / name)
