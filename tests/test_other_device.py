"""Whether tensors of two devices meet anywhere, which a GPU would refuse: on a device that is pretended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.pretended import Device, met

TRAIN = ["train", "digits", "--epochs", "0.2", "--out", "run"]


def met_by(*command: str, cwd: Path) -> dict[str, int]:
    """Run saccade's command on the device and return where tensors of both met."""
    script, root = [sys.executable, "-m", "tests.pretended", *command], str(Path(__file__).parents[1])
    done = subprocess.run(
        script, capture_output=True, text=True, cwd=cwd, timeout=170, env={**os.environ, "PYTHONPATH": root}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == 0, done.stderr
    met: dict[str, int] = told["met"]
    return met


def test_where_tensors_of_both_meet_it_is_told() -> None:
    with Device():  # type: ignore[no-untyped-call]
        there, here = torch.ones(3, device="meta"), torch.ones(3)
        assert (2 * there + torch.tensor(1.0)).tolist() == [3, 3, 3]
        assert there[torch.tensor([0, 2])].tolist() == [1, 1]
        assert not met
        assert (there + here).tolist() == [2, 2, 2]
    assert list(met.values()) == [1]
    met.clear()


@pytest.mark.parametrize(
    "given",
    [
        "--optimizer sgd --ema 0.9 --clip 1 --accumulate 2 --mixup 0.2 --cutmix 1",
        "--optimizer adamw --augment.rotate 10 --augment.hue 0.1 --augment.noise 0.1 --augment.blur 0.1 --test-views 3",
        "--model mlp --preprocess pca-whiten --snapshots 2 --augment randaugment --memory 0",
    ],
)
def test_training_mixes_no_devices(given: str, tmp_path: Path) -> None:
    assert met_by(*TRAIN, *given.split(), cwd=tmp_path) == {}


def test_full_batches_and_what_reads_a_model_mix_no_devices(tmp_path: Path) -> None:
    assert met_by(*TRAIN, *"--model linear --optimizer lbfgs".split(), cwd=tmp_path) == {}
    assert met_by("evaluate", "run", cwd=tmp_path) == {}
