"""What tests of the recipe share: a folder of photos, and weights that were trained elsewhere."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from saccade.train import checkpoint
from tests.photos import photo_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of small photos in three classes."""
    return photo_folder(tmp_path_factory.mktemp("source") / "photos", 30)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the weights of a tiny network, as if it had been trained elsewhere."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "elsewhere.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=1000).state_dict(), file)
    return file


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after every step."""
    monkeypatch.setattr(checkpoint, "FIRST", 0.0)
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))
