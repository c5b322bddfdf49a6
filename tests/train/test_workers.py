"""Processes that read images: one that dies is named, and none outlives the training, however that ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import psutil
import pytest

from saccade.train import Checkpoints
from tests.cli.test_signals import hearing

TRAINING = """
import sys
from itertools import islice
from pathlib import Path

import psutil
import torch.utils.data._utils as workers
from torch import nn

from saccade.cli.app import _ending, _sigterm_unwinds
from saccade.data.batches import DatasetImages
from saccade.settings import TrainSettings
from saccade.train import Checkpoints, Forward, Pace, Session, checkpoint
from tests.train.test_session import OwnData, OwnNetwork, CPU

workers.MP_STATUS_CHECK_INTERVAL = 0.2
checkpoint.FIRST = 0.0
settings = TrainSettings(size=9, batch_size=8, optimizer="adam")
forward, names = Forward(OwnNetwork(), 9, False, CPU), [str(i) for i in range(40)]
session = Session(forward, DatasetImages(OwnData(), 2), names, settings)
course = session.course(Pace.fixed(10**6))
try:
    with _sigterm_unwinds():
        for done, _ in course:
            if done == 3:
                Checkpoints(Path(sys.argv[1])).save(done, course.checkpoint())
                print(*(child.pid for child in psutil.Process().children()), flush=True)
except BaseException as error:
    sentence, status = _ending(error)
    print(sentence, file=sys.stderr)
    sys.exit(status)
"""


@contextmanager
def training(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    """Start a training with two workers, in a group of its own as a terminal would; yield it and them."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hearing,  # noqa: PLW1509 (one thread)
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        assert len(pids) == 2, process.communicate()
        yield process, [psutil.Process(int(pid)) for pid in pids]
    finally:
        process.kill()
        process.wait()


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not alive


def test_a_worker_that_is_killed_is_named_and_the_other_ends(tmp_path: Path) -> None:
    with training(tmp_path) as (process, workers):
        workers[0].kill()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert err.strip().splitlines()[-1] == (
        "A process that reads images has died, as they do where memory runs out: give fewer workers. What was saved "
        "before is whole."
    )
    assert gone(workers)
    kept = Checkpoints(tmp_path).newest()
    assert kept is not None
    assert kept.plain["pace"]["step"] == 2


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str
)
def test_no_worker_outlives_the_training(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    with training(tmp_path) as (process, workers):
        if sent == signal.SIGINT:  # Ctrl-C goes to all of them
            for each in workers:
                each.send_signal(sent)
            sleep(0.2)
            assert all(each.is_running() for each in workers), "they leave that to the training"
        process.send_signal(sent)
        _, err = process.communicate(timeout=30)
        assert process.returncode == status, err
        assert gone(workers)
