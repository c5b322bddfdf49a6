"""Random search: what is drawn, which trials are stopped, and which is followed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from saccade.data.batches import ArrayImages
from saccade.settings import TrainSettings
from saccade.study.search import HopelessError, Trial, best_trial, draws, hopeful, run_trial
from saccade.study.space import Range
from saccade.train.session import Session
from tests.photos import photo

X = torch.from_numpy(np.stack([photo(i % 3, (16, 16), seed=i) for i in range(96)]))
Y = torch.arange(96) % 3


@pytest.fixture
def session() -> Session:
    settings = TrainSettings(model="mlp", width=0.1, size=16, batch_size=16, flip=False, optimizer="adam", device="cpu")
    return Session.start(settings, ArrayImages(X, Y), X, classes=3, names=[str(i) for i in range(96)])


def held(session: Session) -> tuple[NDArray[np.float64], float]:
    log_NK = session.forward.log_probabilities(X).double().numpy()
    return -log_NK[np.arange(96), Y.numpy()], float((log_NK.argmax(1) == Y.numpy()).mean())


def test_logarithms_are_evenly_likely() -> None:
    rng = np.random.default_rng(0)
    drawn = [math.log(Range(1e-4, 1e-1, log=True).draw(rng)) for _ in range(2000)]
    assert stats.kstest(drawn, stats.uniform(math.log(1e-4), math.log(1e3)).cdf).pvalue > 0.01
    plain = [Range(0.0, 0.5).draw(rng) for _ in range(2000)]
    assert stats.kstest(plain, stats.uniform(0, 0.5).cdf).pvalue > 0.01


def test_the_defaults_come_first_and_a_seed_repeats_its_draws() -> None:
    space = {"learning_rate": Range(1e-4, 1e-1, log=True), "cutout": Range(0, 0.5)}
    first, again, other = (draws(space, seed) for seed in (1, 1, 2))
    assert next(first) == next(again) == next(other) == {}
    rows = [next(first) for _ in range(5)]
    assert rows == [next(again) for _ in range(5)]
    assert rows != [next(other) for _ in range(5)]
    assert all(row.keys() == space.keys() for row in rows)


def test_a_trial_learns_and_is_measured(session: Session) -> None:
    trial = run_trial(session.on_trial(), {}, 30, held, ())
    assert trial.stopped == ""
    assert len(trial.losses_N) == 96
    assert trial.loss == pytest.approx(trial.losses_N.mean())
    assert trial.loss < math.log(3)
    assert trial.accuracy > 0.5


def test_a_loss_of_three_times_the_first_ends_a_trial(session: Session) -> None:
    wild = replace(session.on_trial(), settings=session.settings.model_copy(update={"learning_rate": 30.0}))
    trial = run_trial(wild, {"learning_rate": 30.0}, 200, held, ())
    assert trial.stopped == "its loss passed 3 times the first"
    assert trial.loss == math.inf


def test_an_explosion_within_the_first_steps_is_seen_by_the_ninth(session: Session) -> None:
    wild = replace(session.on_trial(), settings=session.settings.model_copy(update={"learning_rate": 30.0}))
    done: list[int] = []
    with pytest.raises(HopelessError, match="its loss passed 3 times the first"):
        done.extend(hopeful(wild, 200))
    assert len(done) < 9


def test_a_loss_that_is_no_number_ends_a_trial(session: Session) -> None:
    broken = session.on_trial()
    with torch.no_grad():
        next(broken.network[1].parameters()).fill_(math.nan)  # type: ignore[index]
    assert run_trial(broken, {}, 40, held, ()).stopped == "its loss was no number any more"


def test_a_trial_that_clearly_loses_ends_half_way(session: Session) -> None:
    good = run_trial(session.on_trial(), {}, 40, held, ())
    slow = replace(session.on_trial(), settings=session.settings.model_copy(update={"learning_rate": 1e-7}))
    trial = run_trial(slow, {"learning_rate": 1e-7}, 40, held, [good])
    assert trial.stopped == "it clearly lost half-way"
    assert trial.half_loss > 1.25 * good.half_loss


def test_a_trial_ends_with_its_time(session: Session) -> None:
    left = iter([1.0] * 5 + [0.0] * 100)
    trial = run_trial(session.on_trial(), {}, 40, held, (), seconds=lambda: next(left))
    assert trial.stopped == "its time was up"
    assert trial.loss == math.inf


def trial(losses: list[float], **settings: float) -> Trial:
    return Trial(settings, np.array(losses), 0.5, 1.0)


def test_the_defaults_are_left_only_for_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    default_N = rng.exponential(size=200)
    default = trial(default_N.tolist())
    hardly = trial((default_N + 0.02 * rng.permutation(np.linspace(-1, 1, 200)) - 1e-4).tolist(), learning_rate=1.0)
    clearly = trial((default_N - 0.3 + rng.normal(0, 0.5, 200)).tolist(), learning_rate=2.0)
    assert best_trial([default, hardly]) is default
    assert best_trial([default, hardly, clearly]) is clearly
    stopped = Trial({}, np.empty(0), 0.0, math.inf, "its loss was no number any more")
    assert best_trial([stopped, hardly]) is hardly
    assert best_trial([one := trial([0.9]), trial([0.1], learning_rate=3.0)]) is one, "one image tells nothing"
