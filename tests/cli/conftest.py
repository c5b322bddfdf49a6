"""Small sources and a finished run, as the command line's tests need them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Saccade


def draw(file: Path, colour: tuple[int, int, int], seed: int) -> Path:
    """Write a noisy picture of one colour; no two seeds give the same."""
    noise = np.random.default_rng(seed).integers(-40, 40, (16, 16, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of two classes that anyone can tell apart, 20 pictures each."""
    for label, colour in (("leaf", (40, 160, 40)), ("sky", (90, 140, 220))):
        for number in range(20):
            draw(tmp_path / "photos" / label / f"{number:02}.png", colour, 1000 * len(label) + number)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory, saccade: Saccade) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a short `fit digits`, and what its `--json` printed."""
    run = tmp_path_factory.mktemp("runs") / "digits"
    done = saccade("fit", "digits", "--budget", "12s", "--out", run, "--json")
    assert done.returncode == 0, done.stderr
    return run, json.loads(done.stdout)


@pytest.fixture(scope="session")
def digit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a picture of a zero, as the digits data set draws it."""
    from sklearn.datasets import load_digits

    file = tmp_path_factory.mktemp("digit") / "zero.png"
    Image.fromarray((load_digits().images[0] * 15.9).astype(np.uint8)).save(file)
    return file
