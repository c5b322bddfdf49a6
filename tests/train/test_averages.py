"""Averages of weights, snapshots and patience, against PyTorch's own averages and losses counted by hand."""

import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from saccade.data.batches import ArrayImages
from saccade.errors import InputError, SettingError
from saccade.optim import cycle, recompute_statistics
from saccade.settings import SearchSettings, TrainSettings
from saccade.train import Forward, Pace, Session, checkpoint
from saccade.train.patience import Patience

CPU = torch.device("cpu")
DRAW = torch.Generator().manual_seed(0)
X_NHWC = torch.randint(0, 256, (60, 4, 4, 3), generator=DRAW, dtype=torch.uint8)
Y_N = torch.randint(0, 3, (60,), generator=DRAW)
NAMES = [str(place) for place in range(60)]


class Normed(nn.Module):
    """A network with a batch norm of its own momentum, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(48, 10), nn.BatchNorm1d(10, momentum=0.3), nn.Dropout(0.5)
        self.last = nn.Linear(10, 3)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, 3)."""
        scores_NK: Tensor = self.last(self.drop(self.norm(self.first(x_NCHW.flatten(1) / 255)).relu()))
        return scores_NK


def session(**chosen: Any) -> Session:
    torch.manual_seed(1)
    plain: dict[str, Any] = {"size": 4, "batch_size": 12, "flip": False, "translate": 0.0, "grow": False,
                             "optimizer": "sgd", "learning_rate": 0.2, "warmup": 0.0}  # fmt: skip
    settings = TrainSettings(**{**plain, **chosen})
    return Session(Forward(Normed(), 4, False, CPU), ArrayImages(X_NHWC, Y_N), NAMES, settings)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_swa_is_pytorchs_average_over_the_last_steps_with_statistics_computed_anew() -> None:
    trained = session(swa=0.25)
    rates, theirs = [], None
    course = trained.course(Pace.fixed(40))
    for _, progress in course:
        rates.append(trained.schedule(progress))
        if progress >= 0.75:
            if theirs is None:
                theirs = AveragedModel(trained.network)
            theirs.update_parameters(trained.network)
    assert rates[:3] == pytest.approx([1.0, 39 / 40, 38 / 40])
    assert rates[30:] == pytest.approx([0.25] * 10)
    assert theirs is not None
    for name, value in theirs.module.named_parameters():
        torch.testing.assert_close(dict(trained.network.named_parameters())[name], value)
    network, averaged = trained.network, theirs.module
    assert isinstance(network, Normed)
    assert isinstance(averaged, Normed)
    exact = averaged.first(X_NHWC.permute(0, 3, 1, 2).flatten(1) / 255)
    torch.testing.assert_close(network.norm.running_mean, exact.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.norm.running_var, exact.var(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chosen", [{"swa": 0.25}, {"ema": 0.9}], ids=str)
def test_the_last_weights_and_the_averaged_ones_change_places_to_the_bit(chosen: dict[str, Any]) -> None:
    trained = session(**chosen)
    course = trained.course(Pace.fixed(20))
    for done, _ in course:
        if done % 7 == 0:
            with course.averaged():
                pass
        last = state(trained.network)
    averaged, average = state(trained.network), course.training.average
    assert average is not None
    assert not torch.equal(last["first.weight"], averaged["first.weight"])
    for expected in (last, averaged, last):
        average.exchange()
        assert all(torch.equal(value, expected[name]) for name, value in state(trained.network).items())


def test_statistics_are_those_that_pytorch_computes_anew_and_the_rest_stays() -> None:
    network = Normed().train()
    theirs = copy.deepcopy(network)
    theirs.drop.p = 0.0
    batches = [X_NHWC[:30].permute(0, 3, 1, 2).float(), X_NHWC[30:].permute(0, 3, 1, 2).float()]
    recompute_statistics(network, batches)
    update_bn(batches, theirs)
    assert network.training
    assert network.norm.momentum == 0.3
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)


def test_without_statistics_no_batch_is_asked_for() -> None:
    batches = iter([torch.full((1, 3), torch.nan)])
    recompute_statistics(nn.Linear(2, 2), batches)
    assert len([*batches]) == 1


def test_without_a_batch_statistics_stay_as_they_are() -> None:
    network = Normed().train()
    network(X_NHWC.permute(0, 3, 1, 2).float())
    before = state(network)
    with pytest.raises(InputError, match=r"^Batch norm's statistics cannot be computed from no batch at all; give"):
        recompute_statistics(network, iter([]))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (network.training, network.norm.momentum) == (True, 0.3)


def test_glances_during_swa_see_the_average_and_leave_the_training_as_it_was() -> None:
    glanced, plain = session(swa=0.47), session(swa=0.47)
    course = glanced.course(Pace.fixed(20))
    for done, _ in course:
        own = state(glanced.network)
        with course.averaged():
            inside = state(glanced.network)
        assert all(torch.equal(value, own[name]) for name, value in state(glanced.network).items())
        assert torch.equal(inside["first.weight"], own["first.weight"]) == (done <= 12)
    for _ in plain.run(Pace.fixed(20)):
        pass
    assert all(torch.equal(value, plain.network.state_dict()[name]) for name, value in state(glanced.network).items())
    assert all(torch.equal(value, inside[name]) for name, value in state(glanced.network).items())


def test_snapshots_are_the_weights_at_the_end_of_each_cycle() -> None:
    trained = session(snapshots=4, schedule="cosine")
    course = trained.course(Pace.fixed(22))
    ends, rates = [], []
    for done, progress in course:
        rates.append(trained.schedule(progress))
        if done == 22 or cycle(done / 22, 4)[0] > cycle(progress, 4)[0]:
            ends.append(state(trained.network))
    lows = [place for place in range(1, 21) if rates[place] < min(rates[place - 1], rates[place + 1])]
    assert lows == [5, 10, 16]
    assert max(rates) == 1.0
    snapshots = course.training.snapshots
    assert snapshots is not None
    for expected, _ in zip(ends, snapshots.each(), strict=True):
        for name, value in state(trained.network).items():
            assert torch.equal(value, expected[name]) or not value.is_floating_point(), name


@pytest.mark.parametrize("chosen", [{"swa": 0.5}, {"snapshots": 3}, {"patience": 2}], ids=str)
def test_a_training_goes_on_to_the_same_bits_after_any_step(chosen: dict[str, Any], tmp_path: Path) -> None:
    def end(start: Session, kept: checkpoint.Checkpoint | None) -> list[dict[str, Tensor]]:
        pace = Pace.fixed(12)
        if kept is not None:
            pace.load_state_dict(kept.plain["pace"])
        course = start.course(pace, kept)
        for done, _ in course:
            if course.patience is not None and course.patience.over(done, away(done), 0.5):
                pace.end()
        if course.patience is not None and "patience" in chosen:
            course.patience.install()
            assert (pace.step, course.patience.epoch) == (7, 5)
        if course.training.snapshots is not None:
            return [state(start.network) for _ in course.training.snapshots.each()]
        return [state(start.network)]

    whole = end(session(**chosen), None)
    assert len(whole) == chosen.get("snapshots", 1)
    for step in (1, 4, 6, 11):
        start = session(**chosen)
        course = start.course(Pace.fixed(12))
        for done, _ in islice(course, step):
            if course.patience is not None:
                course.patience.over(done, away(done), 0.5)
        checkpoint.write(tmp_path / "kept", course.checkpoint())
        if step == 11 and "patience" in chosen:
            continue
        again = end(session(**chosen), checkpoint.read(tmp_path / "kept"))
        for one, other in zip(whole, again, strict=True):
            assert all(torch.equal(value, other[name]) for name, value in one.items() if value.is_floating_point())


def away(done: int) -> Tensor:
    """Return losses that are lowest after step 5."""
    return torch.tensor([abs(done - 5.0)] * 2)


def test_patience_keeps_the_weights_of_the_lowest_loss() -> None:
    network = nn.Linear(1, 1, bias=False)
    patience = Patience(network, 3)
    losses = np.array([3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 4.0])
    answers = []
    for epoch, loss in enumerate(losses):
        nn.init.constant_(network.weight, float(epoch))
        answers.append(patience.over(epoch, torch.tensor([loss]), 0.5))
    assert answers == [False] * 6 + [True]
    patience.install()
    assert float(network.weight.detach()) == patience.epoch == int(losses.argmin())


@pytest.mark.parametrize(
    ("later", "accuracy", "kept"),
    [([0.3, 0.4, 0.6, 0.7], 0.5, 0), ([0.3, 0.4, 0.6, 0.7], 0.6, 1), ([0.0, 0.0, 0.0, 1.0], 0.5, 1)],
    ids=["clearly better", "less accurate", "within chance"],
)
def test_without_patience_the_best_epoch_predicts_where_that_is_clear(
    later: list[float], accuracy: float, kept: int, tmp_path: Path
) -> None:
    network = nn.Linear(1, 1, bias=False)
    best = Patience(network)
    for epoch, losses, reached in ((0, [0.1, 0.2, 0.3, 0.2], 0.5), (1, later, accuracy)):
        nn.init.constant_(network.weight, float(epoch))
        assert not best.over(epoch, torch.tensor(losses), reached)
    again = Patience(network)
    again.load(best.tensors(), best.plain())
    again.install()
    assert float(network.weight.detach()) == kept
    assert again.epoch == 0, "whichever predicts"


def test_patience_is_kept_and_goes_on_from_before_the_first_epoch_ended(tmp_path: Path) -> None:
    course = session(patience=2).course(Pace.fixed(2))
    checkpoint.write(tmp_path / "kept", course.checkpoint())
    again = session(patience=2).course(Pace.fixed(2), checkpoint.read(tmp_path / "kept"))
    assert again.patience is not None
    assert not again.patience.over(1.0, torch.tensor([9.0]), 0.5)
    assert (again.patience.epoch, again.patience.loss) == (1.0, 9.0)


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        (TrainSettings, {"ema": 0.9, "swa": 0.2}, "Ema and swa exclude each other: each says what predicts; give one"),
        (TrainSettings, {"snapshots": 3, "patience": 2}, "Snapshots are taken to the end of the last cycle: leave"),
        (TrainSettings, {"optimizer": "lbfgs", "snapshots": 3}, "finds the length of each step itself: leave out snap"),
        (SearchSettings, {"patience": 3}, "A trial is one network, trained for all of its epochs: leave patience and"),
        (TrainSettings, {"patience": 0}, 'The setting patience cannot be "0"'),
    ],
)
def test_what_does_not_go_together_is_refused(kind: type, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        kind(**given)
