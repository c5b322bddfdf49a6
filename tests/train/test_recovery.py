"""A training that goes astray goes back to a sound state at a lower rate; killed or replayed, it does the same."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saccade.errors import DivergedError
from saccade.events import Event, Finding, listening
from saccade.settings import TrainSettings
from saccade.train import Checkpoint, Pace, Recovery, checkpoint
from saccade.train.budget import Decision
from saccade.train.recovery import SLOWER, TIMES
from tests.train.test_session import session, settings

STEPS = 110
RISING = settings("mlp", optimizer="sgd", norm="none", learning_rate=3.0, warmup=0.9, cutout=0.0)
"""The rate rises until the loss, which fell at first, explodes."""


def findings(events: Sequence[Event]) -> list[Finding]:
    return [event for event in events if isinstance(event, Finding)]


def trained(
    chosen: TrainSettings, pace: Pace, kept: Checkpoint | None = None, until: int = STEPS
) -> tuple[Recovery, list[Finding], list[int]]:
    heard: list[Event] = []
    with listening(heard.append):
        recovery, seen = Recovery(session(chosen), pace, kept), []
        for done, _ in recovery:
            seen.append(done)
            if done == until and recovery.times:
                break
    return recovery, findings(heard), seen


def weights(recovery: Recovery) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in recovery.session.network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def whole() -> tuple[Recovery, list[Finding], list[int]]:
    """Return one that went astray, and came to its end."""
    return trained(RISING, Pace.fixed(STEPS))


def test_it_goes_back_and_says_so(whole: tuple[Recovery, list[Finding], list[int]]) -> None:
    recovery, heard, seen = whole
    assert seen[-1] == STEPS
    assert recovery.times >= 1
    assert all(value.isfinite().all() for value in weights(recovery).values())
    back = [each for each in heard if each.kind == "went back"]
    assert len(back) == recovery.times
    first = recovery.pace.decisions[1]
    assert first.step in (17, 33, 65), "the newest sound look"
    assert f"to the weights after step {first.step}, at 0.2 times the learning rate" in back[0].detail
    assert back[0].severity == "warning"
    fell = next(place for place, (a, b) in enumerate(pairwise(seen)) if b <= a)
    assert seen[fell + 1] == first.step + 1
    assert recovery.pace.rate == pytest.approx(SLOWER**recovery.times)


def test_a_replay_of_what_was_decided_never_goes_astray(whole: tuple[Recovery, list[Finding], list[int]]) -> None:
    recovery = whole[0]
    again = session(RISING)
    steps = [done for done, _, _ in again.run(Pace(recovery.pace.decisions))]
    assert steps == list(range(1, STEPS + 1))
    assert same(weights(recovery), again.network.state_dict())


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_it_goes_back_to_the_same(
    whole: tuple[Recovery, list[Finding], list[int]], when: str, tmp_path: Path
) -> None:
    recovery, _, seen = whole
    fell = next(place for place, (a, b) in enumerate(pairwise(seen)) if b <= a)
    heard: list[Event] = []
    with listening(heard.append):
        stopped = Recovery(session(RISING), Pace.fixed(STEPS))
        for place, _ in enumerate(stopped):
            if place == (fell - 12 if when == "before" else fell + 5):
                checkpoint.write(tmp_path / "kept", stopped.checkpoint())
                break
    kept = checkpoint.read(tmp_path / "kept")
    pace = Pace.fixed(STEPS)
    pace.load_state_dict(kept.plain["pace"])
    resumed, _, _ = trained(RISING, pace, kept)
    assert resumed.times == recovery.times
    assert resumed.pace.decisions == recovery.pace.decisions
    assert same(weights(resumed), weights(recovery))


def test_a_rate_beyond_all_measure_is_given_up() -> None:
    chosen = settings("mlp", optimizer="sgd", norm="none", learning_rate=1e30, warmup=0.0)
    heard: list[Event] = []
    with listening(heard.append), pytest.raises(DivergedError, match=r"The loss became .* at step 2, on .* images"):
        for _ in Recovery(session(chosen), Pace.fixed(20)):
            pass
    assert sum(each.kind == "went back" for each in findings(heard)) == TIMES
    assert "to the first weights, at 0.2 times the learning rate" in findings(heard)[0].detail


def test_weights_that_are_no_numbers_are_not_tried_again() -> None:
    start = session(settings("linear"))
    with torch.no_grad():
        start.network[1][1].weight.fill_(torch.nan)  # type: ignore[index]
    heard: list[Event] = []
    with listening(heard.append), pytest.raises(DivergedError, match="not a number at step 1"):
        for _ in Recovery(start, Pace.fixed(9)):
            pass
    assert heard == []


def test_without_trouble_it_is_the_course() -> None:
    chosen = settings("convnet")
    recovery, heard, seen = trained(chosen, Pace.fixed(20))
    plain = session(chosen)
    for _ in plain.run(Pace.fixed(20)):
        pass
    assert same(weights(recovery), plain.network.state_dict())
    assert (heard, seen) == ([], list(range(1, 21)))
    assert recovery.pace.decisions == [Decision(0, 20)]
