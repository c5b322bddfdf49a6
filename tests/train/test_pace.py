"""Pace: as many steps as asked for, as the clock allows, or as were recorded."""

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from saccade.train.budget import Clock, Decision, Pace


def run(pace: Pace, step_seconds: Callable[[float], float] = lambda progress: 0.0) -> list[tuple[int, float]]:
    """Go through a pace, sleeping in each step."""
    seen = []
    for step, progress in pace:
        seen.append((step, progress))
        time.sleep(step_seconds(progress))
    return seen


def check_rises(seen: list[tuple[int, float]]) -> None:
    steps, progress = zip(*seen, strict=True)
    assert list(steps) == list(range(len(steps)))
    assert progress[0] == 0
    assert all(later - earlier > 0 for earlier, later in pairwise(progress))
    assert progress[-1] < 1


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_fixed_steps_spread_progress_evenly(steps: int) -> None:
    seen = run(Pace.fixed(steps))
    check_rises(seen)
    assert [progress for _, progress in seen] == pytest.approx([i / steps for i in range(steps)])


def test_no_steps() -> None:
    assert run(Pace.fixed(0)) == []


def test_recorded_decisions_bend_the_progress_without_a_jump() -> None:
    seen = run(Pace([Decision(0, 10), Decision(5, 15), Decision(10, 12)]))
    check_rises(seen)
    expected = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.875]
    assert [progress for _, progress in seen] == pytest.approx(expected)


def test_a_recorded_end_ends() -> None:
    assert len(run(Pace([Decision(0, 100), Decision(3, 3)]))) == 3


def timed(budget: float, cost: Callable[[float], float], most_steps: int = 10**6) -> tuple[Pace, list[Decision]]:
    clock, recorded = Clock(budget), list[Decision]()
    return Pace.timed(clock.remaining, cost, recorded.append, most_steps=most_steps), recorded


@pytest.mark.parametrize("believed", [0.001, 0.005, 0.012])
def test_the_clock_is_kept_whatever_a_step_was_believed_to_cost(believed: float) -> None:
    pace, recorded = timed(0.6, lambda progress: believed)
    begun = time.perf_counter()
    seen = run(pace, lambda progress: 0.005)
    assert 0.4 < time.perf_counter() - begun < 1.0
    check_rises(seen)
    assert recorded == pace.decisions
    assert recorded[0] == Decision(0, pytest.approx(0.6 / believed, rel=0.1))  # type: ignore[arg-type]
    assert (len(recorded) > 1) or believed == 0.005
    assert seen[-1][1] > 0.8, "schedules come to their end"
    assert pace.steps == len(seen) == recorded[-1].steps


def test_steps_that_grow_dearer_are_foreseen_by_their_cost() -> None:
    def cost(progress: float) -> float:
        return 0.002 if progress < 0.5 else 0.008

    pace, recorded = timed(0.6, cost)
    begun = time.perf_counter()
    seen = run(pace, cost)
    assert 0.4 < time.perf_counter() - begun < 1.0
    assert recorded[0].steps == pytest.approx(0.6 / 0.005, rel=0.1)
    halfway = sum(progress < 0.5 for _, progress in seen) / len(seen)
    assert halfway == pytest.approx(0.5, abs=0.15)


def test_a_decision_is_recorded_before_it_is_acted_on() -> None:
    heard: list[tuple[int, int]] = []
    current = [-1]
    clock = Clock(0.3)
    pace = Pace.timed(clock.remaining, lambda p: 0.001, lambda d: heard.append((current[0], d.step)), most_steps=10**6)
    for step, _ in pace:
        current[0] = step
        time.sleep(0.004)
    assert heard[0] == (-1, 0)
    assert len(heard) > 1
    assert all(during + 1 == at for during, at in heard)


def test_never_more_than_the_most_steps() -> None:
    pace, recorded = timed(60, lambda progress: 0.001, most_steps=50)
    assert len(run(pace)) == 50
    assert recorded == [Decision(0, 50)]


def test_no_time_no_steps() -> None:
    pace, recorded = timed(-1, lambda progress: 0.01)
    assert run(pace) == []
    assert recorded == [Decision(0, 0)]


def test_a_replay_gives_the_same_steps_at_the_same_progress() -> None:
    pace, recorded = timed(0.4, lambda progress: 0.001)
    seen = run(pace, lambda progress: 0.002 + 0.004 * progress)
    assert len(recorded) > 2
    assert run(Pace(recorded)) == seen
    assert run(Pace(recorded)) == seen, "a pace may be gone through again"


def test_a_clock_counts_down_from_its_beginning() -> None:
    assert Clock(None).remaining() == float("inf")
    clock = Clock(10, begun=time.time() - 4)
    assert clock.elapsed() == pytest.approx(4, abs=0.5)
    assert clock.remaining() == pytest.approx(6, abs=0.5)
    assert Clock(1, begun=time.time() - 4).remaining() < 0
    assert Clock.of_command(60).elapsed() > Clock(60).elapsed() + 0.1, "imports count"
