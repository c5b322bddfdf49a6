"""A batch in parts when memory runs out: the same training as one asked for in so many parts, and it is said."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.data.batches import ArrayImages
from saccade.errors import TrainingError
from saccade.events import Event, Finding, listening
from saccade.settings import TrainSettings
from saccade.train import Forward, Pace, Session

IMAGES = 64
DRAW = torch.Generator().manual_seed(0)
X_NCHW = torch.rand(IMAGES, 3, 8, 8, generator=DRAW)
Y_N = torch.arange(IMAGES) % 3


class Hungry(nn.Module):
    """A linear network that, like a GPU, has no room for more than `most` images."""

    def __init__(self, most: int, error: type[BaseException] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.most, self.error, self.linear = most, error, nn.Linear(192, 3)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, 3)."""
        if self.training and len(x_NCHW) > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 1.00 GiB")
        scores_NK: Tensor = self.linear(x_NCHW.flatten(1))
        return scores_NK


def session(most: int, error: type[BaseException] = torch.OutOfMemoryError, **changed: Any) -> Session:
    torch.manual_seed(0)
    plain = {"size": 8, "batch_size": 32, "flip": False, "optimizer": "adam", "device": "cpu", **changed}
    settings = TrainSettings(**plain)
    forward = Forward(Hungry(most, error), 8, False, torch.device("cpu"))
    return Session(forward, ArrayImages(X_NCHW, Y_N), [str(i) for i in range(IMAGES)], settings)


def trained(start: Session) -> tuple[dict[str, Tensor], list[str]]:
    heard: list[Event] = []
    with listening(heard.append):
        for _ in start.run(Pace.fixed(5)):
            pass
    return start.network.state_dict(), [event.detail for event in heard if isinstance(event, Finding)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_it_goes_on_in_parts_that_fit_and_says_so(error: type[BaseException]) -> None:
    expected, silent = trained(session(32, accumulate=4))
    weights, told = trained(session(8, error))
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert silent == []
    assert told == [
        f"Memory ran out with {size} images at a time: from here on a batch of 32 goes through in {parts} "
        "parts, one after another. The gradient is still that of the whole batch; batch norm sees each part alone."
        for size, parts in ((32, 2), (16, 4))
    ]


def test_what_was_learnt_of_the_memory_is_kept_across_a_resume() -> None:
    whole, _ = trained(session(8))
    first = session(8)
    course = first.course(Pace.fixed(5))
    for done, _ in course:
        if done == 3:
            break
    kept = course.checkpoint()
    pace = Pace.fixed(5)
    pace.load_state_dict(kept.plain["pace"])
    again, heard = session(8), list[Event]()
    with listening(heard.append):
        for _ in again.course(pace, kept):
            pass
    assert heard == [], "it did not run out again"
    assert all(torch.equal(value, whole[name]) for name, value in again.network.state_dict().items())


def test_where_nothing_fits_it_ends_with_a_sentence() -> None:
    with pytest.raises(TrainingError) as caught:
        trained(session(1))
    assert str(caught.value) == (
        "There is not enough memory to train on 2 images at a time; give a smaller --size, --width or network."
    )


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match=r"^CUDA out of memory\. Tried to allocate 1\.00 GiB$"):
        trained(session(8, RuntimeError))


LIMITED = """
import json, resource, sys
import psutil, torch
from torch import nn
from saccade.events import listening
from saccade.train import Pace
from tests.train.test_parts import ArrayImages, Forward, Session, TrainSettings, Y_N

torch.set_num_threads(1)
x_NCHW = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))

def training(**changed):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    settings = TrainSettings(size=64, batch_size=64, flip=False, optimizer="sgd", learning_rate=0.1, **changed)
    session = Session(Forward(net, 64, False, torch.device("cpu")), ArrayImages(x_NCHW, Y_N), "x" * 64, settings)
    for _ in session.run(Pace.fixed(2)):
        pass
    return net.state_dict()

expected = training(accumulate=4)
room = psutil.Process().memory_info().vms + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
heard = []
with listening(heard.append):
    weights = training()
print(json.dumps([[each.detail for each in heard], all(torch.equal(weights[n], expected[n]) for n in weights)]))
"""


def test_under_a_real_limit_of_the_systems() -> None:
    """A batch needs some 180 MB for what the first convolution and the ReLU give; 100 are left."""
    command = [sys.executable, "-c", LIMITED, "100"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, same = json.loads(done.stdout)
    assert [each.partition(":")[0] for each in told] == [
        "Memory ran out with 64 images at a time",
        "Memory ran out with 32 images at a time",
    ]
    assert same
