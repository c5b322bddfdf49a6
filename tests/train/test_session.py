"""Training from end to end: bit for bit a hand-written loop, reproducible, on a user's own network and data."""

import copy
import math
from dataclasses import replace
from functools import partial
from itertools import count, islice, pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from saccade import augment
from saccade.data.batches import ArrayImages, DatasetImages, Order
from saccade.device import derived_seed, generator
from saccade.errors import InputError, ModelError, SettingError, TrainingError
from saccade.nn import zoo
from saccade.optim.muon import Muon
from saccade.settings import TrainSettings
from saccade.train import Forward, Pace, Session, timing
from saccade.train.preparing import CHANGES, alternating
from saccade.train.session import lasting
from tests.photos import photo

CPU = torch.device("cpu")
SIDE, IMAGES, CLASSES = 16, 60, 3
X_NHWC = torch.from_numpy(np.stack([photo(i % CLASSES, (SIDE, SIDE), seed=i) for i in range(IMAGES)]))
Y_N = torch.arange(IMAGES) % CLASSES
NAMES = [f"{i:04d}.jpg" for i in range(IMAGES)]


def settings(model: str = "mlp", **changed: Any) -> TrainSettings:
    plain = {"size": SIDE, "batch_size": 16, "flip": True, "width": 0.25, "precision": "float32", "device": "cpu"}
    return TrainSettings(**{"model": model, "cutout": 0.25, "seed": 5, **plain, **changed})


def session(chosen: TrainSettings) -> Session:
    return Session.start(chosen, ArrayImages(X_NHWC, Y_N), X_NHWC, classes=CLASSES, names=NAMES)


def trained(start: Session, steps: int) -> dict[str, Tensor]:
    for _ in start.run(Pace.fixed(steps)):
        pass
    return start.network.state_dict()


def by_hand(chosen: TrainSettings, steps: int) -> dict[str, Tensor]:
    """Train with nothing but PyTorch, the update rule, the augmentations and the order of the images."""
    torch.manual_seed(derived_seed(5, "weights"))
    network = zoo.build(chosen.model, classes=CLASSES, side=SIDE, width=0.25)
    zoo.fit_to(network, X_NHWC)
    network.to(memory_format=torch.channels_last)
    kernels = [p for p in network.parameters() if p.requires_grad and p.ndim == 4]
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim == 2]
    vectors = [p for p in network.parameters() if p.requires_grad and p.ndim < 2]
    rules: list[tuple[torch.optim.Optimizer, float]]
    if chosen.model == "convnet":
        rest = torch.optim.Adam([*matrices, *vectors], betas=(0.85, 0.95))
        rules, warmup = [(Muon(kernels), 0.24), (rest, 0.048)], 0.0
    else:
        groups = [{"params": matrices, "weight_decay": 5e-4}, {"params": vectors, "weight_decay": 0.0}]
        rules, warmup = [(torch.optim.SGD(groups, momentum=0.9, nesterov=True), 0.1)], 0.1
    order, draws = Order(IMAGES, 16, 5), generator(5, "augment")
    progress = 0.0
    for step in range(steps):
        index_N, epoch_N = order(step)
        coin_N = (index_N * 2654435761 + derived_seed(5, "mirror") % 2**31) >> 16
        x = augment.mirror(X_NHWC[index_N], (coin_N + epoch_N) % 2 == 1)
        x = augment.translate(x, 0.0625, draws)
        x_NCHW = augment.cutout(x, 0.25, draws).permute(0, 3, 1, 2).float()
        scores_NK = network(x_NCHW)
        loss = F.cross_entropy(scores_NK, Y_N[index_N], reduction="none", label_smoothing=0.2).mean()
        loss.backward()
        factor = progress / warmup if progress < warmup else 1 - (progress - warmup) / (1 - warmup)
        for rule, rate in rules:
            for group in rule.param_groups:
                group["lr"] = rate * factor
            rule.step()
            rule.zero_grad()
        progress += (1 - progress) / (steps - step)
    return network.state_dict()


@pytest.mark.parametrize(("model", "optimizer"), [("mlp", "nesterov"), ("convnet", None)])
def test_training_is_bit_for_bit_the_loop_written_by_hand(model: str, optimizer: str | None) -> None:
    chosen = settings(model, optimizer=optimizer)
    expected = by_hand(chosen, 12)
    start = session(chosen)
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    state = trained(start, 12)
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    moved = [name for name, value in state.items() if not torch.equal(value, before[name])]
    assert len(moved) > len(state) / 2


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_batch_of_all_images_is_full_batch_descent(accumulate: int) -> None:
    """The weights go down the gradient of the mean loss over all images, as a loop in float64 does."""
    chosen = settings(
        "linear", batch_size="all", accumulate=accumulate, optimizer="sgd", learning_rate=0.05, schedule="constant",
        warmup=0.0, weight_decay=0.0, label_smoothing=0.0, flip=False, translate=0.0, cutout=0.0, grow=False,
    )  # fmt: skip
    start = session(chosen)
    assert (start.batch_size, start.steps(5)) == (IMAGES, 5)
    network = copy.deepcopy(start.network).double()
    for _ in range(5):
        network.zero_grad()
        F.cross_entropy(network(X_NHWC.permute(0, 3, 1, 2).double()), Y_N).backward()
        with torch.no_grad():
            for weight in network.parameters():
                if weight.grad is not None:
                    weight.sub_(0.05 * weight.grad)
    expected = network.state_dict()
    for name, value in trained(start, 5).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-6)


def test_what_others_draw_between_steps_and_what_steps_draw_are_apart() -> None:
    chosen = settings("mlp", dropout=0.5)
    alone = trained(session(chosen), 4)
    start = session(chosen)
    torch.manual_seed(3)
    drawn = [torch.rand(2) for _ in start.run(Pace.fixed(4))]
    assert all(torch.equal(value, alone[name]) for name, value in start.network.state_dict().items())
    torch.manual_seed(3)
    assert all(torch.equal(each, torch.rand(2)) for each in drawn)


@pytest.mark.parametrize("model", ["convnet", "mlp", "linear", "torchvision/squeezenet1_1"])
def test_seed_and_settings_decide_every_bit(model: str) -> None:
    """SqueezeNet has dropout, which draws from PyTorch's global generator."""
    chosen = settings(model, size=32 if "/" in model else SIDE)
    one = trained(session(chosen), 4)
    torch.rand(7)
    again = trained(session(chosen), 4)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    other = trained(session(chosen.model_copy(update={"seed": 6})), 4)
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_starting_leaves_the_global_generator_as_it_was() -> None:
    state = torch.get_rng_state()
    session(settings("convnet"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_does_not_fit_is_refused_at_the_start() -> None:
    with pytest.raises(ModelError, match=r'The network "torchvision/alexnet" cannot take images of 16 x 16 pixels'):
        session(settings("torchvision/alexnet"))


def test_every_image_is_seen_both_ways_within_two_epochs() -> None:
    batches = list(islice(ArrayImages(X_NHWC, Y_N).batches(Order(IMAGES, 16, 0)), 15))
    seen: dict[tuple[int, int], bool] = {}
    for batch in batches:
        facts = zip(batch.epoch_N.tolist(), batch.index_N.tolist(), alternating(batch, 0).tolist(), strict=True)
        seen.update({(epoch, index): mirrored for epoch, index, mirrored in facts})
    assert len(seen) == 4 * IMAGES
    assert all(seen[epoch, index] != seen[epoch + 1, index] for epoch in range(3) for index in range(IMAGES))
    for epoch in range(4):
        assert 0.25 < np.mean([seen[epoch, index] for index in range(IMAGES)]) < 0.75
    other = [alternating(batch, 1).tolist() == alternating(batch, 0).tolist() for batch in batches]
    assert not all(other)


def test_a_loss_that_is_no_number_ends_the_training_with_names() -> None:
    broken = session(settings("linear", flip=False))
    with torch.no_grad():
        next(broken.network[1].parameters()).fill_(math.inf)  # type: ignore[index]
    with pytest.raises(TrainingError, match=r"at step 1, on 16 of 16 images \(\d{4}\.jpg, .* and 13 more\)"):
        trained(broken, 3)


def test_a_network_that_takes_any_size_grows_up() -> None:
    growing = session(settings("convnet", size=40))
    sides = [growing.side_at(progress) for progress in np.linspace(0, 0.999, 50)]
    assert sides == sorted(sides)
    assert sides[0] <= 0.8 * 40
    assert sides[-1] == 40
    assert {session(settings("convnet", size=40, grow=False)).side_at(p) for p in (0, 0.9)} == {40}
    assert {session(settings("mlp", size=40)).side_at(p) for p in (0, 0.9)} == {40}
    assert session(settings("convnet", size=8)).side_at(0.0) == 8


def test_timing_leaves_the_session_as_it_was() -> None:
    start = session(settings("convnet"))
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    assert timing.image_seconds(start, 8, images=64) > 0
    assert timing.prediction_seconds(start, images=32) > 0
    assert all(torch.equal(value, before[name]) for name, value in start.network.state_dict().items())
    expected = trained(session(settings("convnet")), 3)
    assert all(torch.equal(value, expected[name]) for name, value in trained(start, 3).items())


@pytest.mark.parametrize(
    ("tick", "trained", "predicted"),
    [(0.001, 32, 32), (0.2, 15, 20), (1.0, timing.FEW, timing.FEW)],
    ids=["fast", "slower", "slow"],
)
def test_timing_takes_as_many_images_as_can_be_had_in_time(
    tick: float, trained: int, predicted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a tick a look."""
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=partial(next, count(0.0, tick))))
    start = session(settings("mlp"))
    assert timing.image_seconds(start, 16, images=32) == pytest.approx(tick / trained)
    assert timing.prediction_seconds(start, images=32) == pytest.approx(tick / predicted)


class OwnNetwork(nn.Module):
    """What a user might bring: no `standardize`, channels of its own, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, 2)."""
        scores_NK: Tensor = self.head(self.drop(F.relu(self.conv(x_NCHW)).mean((2, 3))))
        return scores_NK


class OwnData(Dataset[Any]):
    """Float images of two channels, of which the brighter one is the class; noise drawn at random."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x_CHW = 0.3 * torch.rand(2, 6, 9)
        x_CHW[index % 2] += 1
        return x_CHW, index % 2


@pytest.mark.parametrize("optimizer", ["muon", "nesterov", "adam", "adamw", "adagrad", "rmsprop", "momentum"])
def test_a_users_own_network_and_data_set_are_trained(optimizer: Any) -> None:
    chosen = TrainSettings(size=9, batch_size=8, optimizer=optimizer, learning_rate=0.05, label_smoothing=0.0)

    def outcome(workers: int) -> tuple[list[float], dict[str, Tensor]]:
        torch.manual_seed(0)
        forward = Forward(OwnNetwork(), 9, False, CPU)
        own = Session(forward, DatasetImages(OwnData(), workers), [f"item {i}" for i in range(40)], chosen)
        losses = [watch.mean() for _, _, watch in own.run(Pace.fixed(own.steps(6)))]
        x_NCHW, y_N = (
            torch.stack(list(map(torch.as_tensor, each)))
            for each in zip(*map(OwnData().__getitem__, range(40)), strict=True)
        )
        assert float((forward.log_probabilities(x_NCHW).argmax(1) == y_N).float().mean()) == 1.0
        return losses, own.network.state_dict()

    losses, state = outcome(0)
    assert len(losses) == 30
    assert losses[-1] < losses[0] / 2
    if optimizer == "nesterov":
        losses_2, state_2 = outcome(2)
        assert losses_2 == losses
        assert all(torch.equal(value, state_2[name]) for name, value in state.items())


def own_session(names: list[str], item: tuple[Tensor, int] | None = None, **changed: Any) -> Session:
    """Return a session on the data above, of which the tenth may be another `item`."""

    class Changed(OwnData):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return item if item and index == 9 else super().__getitem__(index)

    chosen = TrainSettings(size=9, batch_size=8, **{"optimizer": "nesterov", **changed})
    return Session(Forward(OwnNetwork(), 9, False, CPU), DatasetImages(Changed()), names, chosen)


FORTY = [f"item {i}" for i in range(40)]


def test_names_of_classes_are_no_names_of_images() -> None:
    with pytest.raises(InputError) as refused:
        next(iter(own_session(["cat", "dog"]).run(Pace.fixed(5))))
    assert str(refused.value) == (
        "There are 2 names for 40 images; give one an image, in the order of the images: the watch tells by them on "
        "which ones training went wrong."
    )


def test_what_a_session_lacks_is_said_in_a_sentence() -> None:
    whole = own_session(FORTY)
    for rule in ("nesterov", "lbfgs"):
        lacking = replace(whole, settings=TrainSettings(size=9, optimizer=rule))
        with pytest.raises(SettingError, match="do not say how many images a step is of; give batch_size, such as 64"):
            next(iter(lacking.run(Pace.fixed(5))))
        empty = replace(whole, images=DatasetImages(Subset(OwnData(), [])), names=[])
        empty = replace(empty, settings=TrainSettings(size=9, batch_size=8, optimizer=rule))
        with pytest.raises(InputError, match="There are no images to train on; give at least one"):
            empty.steps(3)
        with pytest.raises(InputError, match="There are no images to train on"):
            next(iter(empty.run(Pace.fixed(5))))
    with pytest.raises(SettingError, match="do not say of what side images are; give size, such as 64"):
        Forward.of(OwnNetwork(), TrainSettings(batch_size=8))


@pytest.mark.parametrize("epochs", [0, -1.5, math.nan, math.inf])
def test_epochs_that_are_no_number_above_0_make_no_steps(epochs: float) -> None:
    with pytest.raises(SettingError, match=f"cannot be passed over {epochs} times; give a number of epochs above 0"):
        own_session(FORTY).steps(epochs)


@pytest.mark.parametrize("label", [2, -1])
@pytest.mark.parametrize(("optimizer", "name"), [("nesterov", "item 9"), ("lbfgs", "image 9")])
def test_a_label_without_a_score_is_refused_by_the_images_name(label: int, optimizer: str, name: str) -> None:
    start = own_session(FORTY, (torch.zeros(2, 6, 9), label), optimizer=optimizer)
    with pytest.raises(InputError) as refused:
        list(start.run(Pace.fixed(5)))
    assert str(refused.value) == (
        f"The network gives 2 scores, for labels from 0 to 1, but the label of {name} is {label}; number the classes "
        "from 0, or give a network with more outputs."
    )


def test_an_image_that_makes_the_loss_no_number_is_named() -> None:
    with pytest.raises(TrainingError, match=r"not a number at step .* \(item 9\); try a lower learning rate"):
        list(own_session(FORTY, (torch.full((2, 6, 9), math.nan), 1)).run(Pace.fixed(5)))


@pytest.mark.parametrize(
    "asked",
    [{"mixup": 0.2}, {"cutmix": 1.0}, {"augment": {"pca": 0.1}}, {"cutout": 0.25}, {"translate": 0.1}, {"grow": True}],
)
def test_what_would_change_images_that_are_prepared_already_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as refused:
        next(iter(own_session(FORTY, **asked, flip=True).run(Pace.fixed(5))))
    named = sorted(["flip", *asked], key=CHANGES.index)
    assert str(refused.value) == (
        "The data set gives images of type float32, which are taken to be prepared already, and "
        f"{', '.join(named)} would change them: leave that out, or give uint8 images (N, H, W, 3)."
    )


def test_what_changes_images_may_be_turned_off_for_those_that_are_prepared_already() -> None:
    off: dict[str, Any] = {
        "flip": False,
        "translate": 0.0,
        "augment": {},
        "cutout": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "grow": False,
    }
    assert len(list(own_session(FORTY, **off).run(Pace.fixed(2)))) == 2


def test_steps_and_rates_for_the_record() -> None:
    start = session(settings("mlp", optimizer="adam", learning_rate=0.01, schedule="cosine", warmup=0.0))
    assert (start.steps(1), start.steps(2.5), start.steps(0.001)) == (4, 9, 1)
    rates = [start.learning_rate(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert rates == pytest.approx([0.01, 0.005 * (1 + math.cos(math.pi / 4)), 0.005, 0.0])
    assert all(a > b for a, b in pairwise(rates))
    assert session(settings(batch_size=500)).batch_size == IMAGES
    assert (session(settings("convnet")).rule, session(settings("mlp")).rule) == ("muon", "adam")


@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("cycles", [1, 2])
def test_a_warm_up_of_one_step_is_none_for_it_would_learn_nothing(steps: int, cycles: int) -> None:
    chosen = settings(optimizer="nesterov", snapshots=cycles)
    start = session(chosen)
    before = {name: value.clone() for name, value in start.network.named_parameters()}
    first = next(iter(start.course(Pace.fixed(steps * cycles))))
    assert first == (1, 0.0)
    assert not any(torch.equal(value, before[name]) for name, value in start.network.named_parameters())
    state = trained(session(chosen), steps * cycles)
    without = trained(session(chosen.model_copy(update={"warmup": 0.0})), steps * cycles)
    assert all(torch.equal(value, without[name]) for name, value in state.items())
    assert lasting(start, 11 * cycles) is start


EVERYTHING = {
    "augment": {"rotate": 15, "pca": 0.1, "noise": 0.05, "trivialaugment": 1},
    "mixup": 0.4,
    "cutmix": 1.0,
    "dropout": 0.2,
    "stochastic_depth": 0.3,
    "l1": 1e-5,
    "l2": 1e-4,
}


def test_augmented_mixed_and_regularised_the_seed_still_decides_every_bit() -> None:
    once, again = (trained(session(settings("convnet", **EVERYTHING)), 5) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    plain = trained(session(settings("convnet")), 5)
    assert not all(torch.equal(once[name], plain[name]) for name in once)


@pytest.mark.parametrize("name", ["augment", "mixup", "cutmix", "dropout", "stochastic_depth", "l1", "l2"])
def test_each_setting_alone_changes_the_training(name: str) -> None:
    plain, changed = (trained(session(settings("convnet", **more)), 3) for more in ({}, {name: EVERYTHING[name]}))
    assert not all(torch.equal(plain[key], changed[key]) for key in plain)


def test_mixed_labels_are_shares_of_the_two_images() -> None:
    chosen = settings("mlp", mixup=0.5, flip=False, translate=0.0, cutout=0.0)
    made = session(chosen)
    batch = next(made.images.batches(Order(IMAGES, 16, 5)))
    x_NCHW, target_NK = made.training().prepare(batch, 0.0)
    _, other_N, share_N = augment.mixup(batch.x_NHWC, 0.5, generator(5, "augment"))
    assert torch.equal(target_NK, augment.targets(batch.y_N, other_N, share_N, CLASSES))
    own = share_N[:, None, None, None].float()
    exact = own * batch.x_NHWC + (1 - own) * batch.x_NHWC[other_N]
    assert float((x_NCHW.permute(0, 2, 3, 1) - exact).abs().max()) <= 0.5 + 1e-3
