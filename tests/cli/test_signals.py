"""Ended from outside: the right exit status, whole files, one sentence."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.conftest import Saccade


def start(*arguments: str | Path, **options: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "saccade", *map(str, arguments)]
    stderr = options.get("stderr", subprocess.PIPE)
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=stderr, preexec_fn=hearing)  # noqa: PLW1509


def hearing() -> None:
    """Let Ctrl-C through, which a shell's background job, and so what it starts, would not hear."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    end = monotonic() + 60
    while not path.exists() and process.poll() is None and monotonic() < end:
        sleep(0.05)
    assert path.exists(), process.communicate()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_work_cleanly(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    process = start("train", "digits", "--epochs", "100000", "--out", tmp_path / "run", "--json")
    wait_for(tmp_path / "run" / "settings.yaml", process)
    sleep(1)
    process.send_signal(sent)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status, err
    assert out == ""
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1] in ("saccade: Interrupted.", "saccade: Terminated.")
    assert [file for file in tmp_path.rglob("*") if file.name.startswith(".")] == []


def test_a_reader_that_leaves_is_no_fault(saccade: Saccade) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = saccade("--help", stdout=writer, capture_output=False, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_full_disk_is_said(saccade: Saccade) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with full.open("w") as stream:
        done = saccade("--help", stdout=stream, capture_output=False, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
