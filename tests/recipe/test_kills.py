"""Killed at random moments: the script that does it a hundred times, ten times over runs of a second."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SCRIPT = Path(__file__).parents[2] / "scripts" / "kills.py"
NOISY = ("--flip", "--augment.rotate=15", "--mixup=0.2", "--ema=0.9", "--precision=bfloat16", "--dropout=0.1")


def test_killed_ten_times_weights_state_and_samples_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """Images are streamed, by none and by two threads."""
    digits = load_digits()
    images = np.kron(digits.images[:240] * 15.9, np.ones((2, 2))).astype(np.uint8)
    np.savez(tmp_path / "some.npz", images=images, labels=digits.target[:240])
    training = [
        "train",
        tmp_path / "some.npz",
        "--model",
        "conv8",
        "--epochs",
        "4",
        "--batch-size",
        "16",
        "--memory",
        "0",
    ]
    kills = ["--kills", "10", "--each", "5", "--same", "--vary", "workers", "0", "2"]
    command = [sys.executable, SCRIPT, *kills, "--", *training, *NOISY, "--threads", "1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("10 kills, ")
    assert last.endswith(" runs, 0 with faults")
    assert " 0 starts from a checkpoint" not in last, done.stdout
