"""Accumulation, clipping, averages, balance and full batches, against loops written by hand on a two-layer net."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from saccade.data.batches import ArrayImages, Balanced, DatasetImages, Order
from saccade.errors import SettingError, TrainingError
from saccade.events import Event, Finding, listening
from saccade.nn import zoo
from saccade.settings import TrainSettings
from saccade.train import Forward, Pace, Session
from saccade.train.session import full_batch
from tests.train import test_session
from tests.train.test_session import CPU, OwnData, OwnNetwork

IMAGES, CLASSES, STEPS = 50, 3, 12
DRAW = torch.Generator().manual_seed(0)
X_NCHW = torch.rand(IMAGES, 1, 4, 4, generator=DRAW)
Y_N = torch.tensor([0] * 30 + [1] * 15 + [2] * 5)
NAMES = [str(i) for i in range(IMAGES)]


class TwoLayers(nn.Module):
    """The notes' f = W₂ max(0, W₁ x), with a layer of dropout where asked for."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(16, 20), nn.Dropout(dropout), nn.Linear(20, CLASSES)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, 3)."""
        scores_NK: Tensor = self.second(self.drop(F.relu(self.first(x_NCHW.flatten(1)))))
        return scores_NK


def two_layers(dropout: float = 0.0) -> TwoLayers:
    torch.manual_seed(1)
    return TwoLayers(dropout)


def session(network: nn.Module | None = None, **chosen: Any) -> Session:
    settings = TrainSettings(
        **{"size": 4, "batch_size": 12, "flip": False, "label_smoothing": 0.1, "seed": 3, **chosen}
    )
    forward = Forward(network or two_layers(), 4, False, CPU)
    return Session(forward, ArrayImages(X_NCHW, Y_N), NAMES, settings)


def by_hand(**chosen: Any) -> dict[str, Tensor]:
    """Train with PyTorch's rules and the order of the images alone; return the weights that predict."""
    network, order = two_layers(), Order(IMAGES, 12, 3)
    weights = [network.first.weight, network.second.weight]
    biases = [network.first.bias, network.second.bias]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": biases, "weight_decay": 0.0}]
    rules: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(groups, lr=0.2),
        "momentum": lambda: torch.optim.SGD(groups, lr=0.2, momentum=0.9),
        "adam": lambda: torch.optim.Adam(groups, lr=0.2),
    }
    rule = rules[chosen["optimizer"]]()
    classes = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(CLASSES), y=Y_N.numpy())).float()
    averaged = {name: value.clone() for name, value in network.state_dict().items()}
    progress = 0.0
    for step in range(STEPS):
        index_N, _ = order(step)
        x, y_N = X_NCHW[index_N], Y_N[index_N]
        for part, y in zip(x.chunk(chosen.get("accumulate", 1)), y_N.chunk(chosen.get("accumulate", 1)), strict=True):
            loss_N = F.cross_entropy(network(part), y, reduction="none", label_smoothing=0.1)
            if chosen.get("balance") == "weights":
                loss_N = loss_N * classes[y]
            (loss_N.sum() / 12).backward()
        if "clip" in chosen:
            torch.nn.utils.clip_grad_norm_(network.parameters(), chosen["clip"])
        for group in rule.param_groups:
            group["lr"] = 0.2 * (1 - progress)
        rule.step()
        rule.zero_grad()
        if "ema" in chosen:
            decay = min(chosen["ema"], (2 + step) / (11 + step))
            for name, value in network.state_dict().items():
                averaged[name].lerp_(value, 1 - decay)
        progress += (1 - progress) / (STEPS - step)
    return averaged if "ema" in chosen else network.state_dict()


@pytest.mark.parametrize(
    "chosen",
    [
        {"optimizer": "sgd"},
        {"optimizer": "momentum", "clip": 0.1},
        {"optimizer": "momentum", "accumulate": 4},
        {"optimizer": "adam", "ema": 0.8},
        {"optimizer": "adam", "balance": "weights"},
        {"optimizer": "sgd", "clip": 0.2, "accumulate": 3, "ema": 0.9, "balance": "weights"},
    ],
    ids=str,
)
def test_a_two_layer_net_is_trained_bit_for_bit_as_by_hand(chosen: dict[str, Any]) -> None:
    trained = session(learning_rate=0.2, weight_decay=0.01, warmup=0.0, **chosen)
    for _ in trained.run(Pace.fixed(STEPS)):
        pass
    expected = by_hand(**chosen)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_batch_in_parts_gives_the_gradient_of_the_whole() -> None:
    states = []
    for accumulate in (1, 5, 100):
        trained = session(optimizer="sgd", learning_rate=0.1, accumulate=accumulate)
        for _ in trained.run(Pace.fixed(STEPS)):
            pass
        states.append(trained.network.state_dict())
    for other in states[1:]:
        for name, value in states[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6)


def test_the_average_is_pytorchs_and_is_what_predicts() -> None:
    """Past its youth the decay is constant, as in PyTorch's own average."""
    trained = session(optimizer="sgd", learning_rate=0.3, ema=0.5)
    course = trained.course(Pace.fixed(STEPS))
    theirs: AveragedModel | None = None
    for done, _ in course:
        own = {name: value.clone() for name, value in trained.network.state_dict().items()}
        with course.averaged():
            inside = {name: value.clone() for name, value in trained.network.state_dict().items()}
        assert all(torch.equal(value, own[name]) for name, value in trained.network.state_dict().items())
        if theirs is not None:
            theirs.update_parameters(trained.network)
            for name, value in theirs.module.state_dict().items():
                torch.testing.assert_close(inside[name], value)
        elif done == 8:  # (1 + 8) / (10 + 8) = 0.5
            theirs = AveragedModel(
                trained.network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True
            )
            theirs.module.load_state_dict(inside)
            theirs.n_averaged += 1
    assert all(torch.equal(value, inside[name]) for name, value in trained.network.state_dict().items())
    assert not torch.equal(own["first.weight"], inside["first.weight"])


def test_without_an_average_the_network_predicts_as_it_is() -> None:
    course = session().course(Pace.fixed(1))
    before = course.training.forward.network.state_dict()
    with course.averaged():
        assert all(torch.equal(value, before[name]) for name, value in before.items())


# balance


def test_balanced_sampling_shows_every_class_as_often_and_no_image_much_more_often() -> None:
    order = Balanced(IMAGES, 12, 3, Y_N)
    seen: dict[int, Counter[int]] = {}
    for step in range(25):  # 300 draws, six epochs of 50
        index_N, epoch_N = order(step)
        assert epoch_N.tolist() == Order(IMAGES, 12, 3)(step)[1].tolist()
        for index, epoch in zip(index_N.tolist(), epoch_N.tolist(), strict=True):
            seen.setdefault(epoch, Counter())[index] += 1
    assert len(seen) == 6
    for counts in seen.values():
        per_class = Counter[int]()
        for index, count in counts.items():
            per_class[int(Y_N[index])] += count
        assert sorted(per_class.values()) == [16, 17, 17]
        for label in range(CLASSES):
            drawn = [counts[i] for i in range(IMAGES) if Y_N[i] == label]
            assert max(drawn) - min(drawn) <= 1
    assert torch.equal(order(7)[0], Balanced(IMAGES, 12, 3, Y_N)(7)[0])
    assert not torch.equal(order(7)[0], Balanced(IMAGES, 12, 4, Y_N)(7)[0])
    assert not torch.equal(order(7)[0], Balanced(IMAGES, 12, 3, Y_N.flip(0))(7)[0])


def test_a_session_samples_in_balance() -> None:
    balanced = session(balance="sampling")
    labels = torch.cat([batch.y_N for batch in islice(balanced.training().batches, 25)])
    assert labels.bincount().tolist() == pytest.approx([100, 100, 100], abs=6)


def test_each_share_of_a_mixed_label_counts_by_its_own_class() -> None:
    weighted, plain = session(balance="weights"), session(balance="none")
    scores_NK = torch.randn(IMAGES, CLASSES, generator=torch.Generator().manual_seed(0))
    other_N, share_N = Y_N.roll(1), torch.linspace(0, 1, IMAGES)
    mixed_NK = share_N[:, None] * F.one_hot(Y_N, CLASSES) + (1 - share_N[:, None]) * F.one_hot(other_N, CLASSES)
    weight_K = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(CLASSES), y=Y_N.numpy())).float()
    expected_N = share_N * weight_K[Y_N] * plain.loss(scores_NK, Y_N)
    expected_N += (1 - share_N) * weight_K[other_N] * plain.loss(scores_NK, other_N)
    assert plain.settings.label_smoothing > 0
    torch.testing.assert_close(weighted.loss(scores_NK, mixed_NK), expected_N)


def test_weights_make_every_class_count_the_same() -> None:
    weighted = session(balance="weights", label_smoothing=0.0)
    losses_N = weighted.loss(torch.zeros(IMAGES, CLASSES), Y_N)
    sums = [float(losses_N[label == Y_N].sum()) for label in range(CLASSES)]
    assert sums == pytest.approx([sums[0]] * CLASSES)
    assert float(losses_N.mean()) == pytest.approx(np.log(3), rel=1e-5)


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_balance_needs_labels_beforehand(balance: Any) -> None:
    chosen = TrainSettings(size=9, batch_size=8, optimizer="adam", balance=balance)
    own = Session(Forward(OwnNetwork(), 9, False, CPU), DatasetImages(OwnData()), NAMES[:40], chosen)
    with pytest.raises(SettingError, match=rf"balance={balance} needs the label of every image before training"):
        next(iter(own.run(Pace.fixed(1))))


# full batches


def test_lbfgs_reaches_scikit_learns_optimum_through_a_session_in_whatever_parts() -> None:
    x_ND = X_NCHW.flatten(1).double().numpy()
    theirs = LogisticRegression(C=1 / (0.01 * IMAGES), tol=1e-10, max_iter=5000).fit(x_ND, Y_N.numpy())
    log_NK = theirs.predict_log_proba(x_ND)
    expected = -log_NK[np.arange(IMAGES), Y_N.numpy()].mean() + 0.005 * (theirs.coef_**2).sum()
    for batch_size in (50, 7):
        linear = nn.Linear(16, CLASSES)
        network = nn.Sequential(nn.Flatten(), linear)
        trained = session(network, optimizer="lbfgs", weight_decay=0.01, label_smoothing=0.0, batch_size=batch_size)
        assert trained.batch_size == IMAGES
        assert trained.steps(40) == 40
        heard: list[Event] = []
        with listening(heard.append):
            losses = [watch.mean() for _, _, watch in trained.run(Pace.fixed(300))]
        assert len(losses) < 100
        [finding] = [event for event in heard if isinstance(event, Finding)]
        assert finding.kind == "converged"
        assert f"L-BFGS ended after {len(losses)} steps: no derivative is larger than" in finding.detail
        weight_KD = linear.weight.detach().double()
        penalty = float(0.005 * weight_KD.square().sum())
        assert losses[-1] + penalty == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(weight_KD.numpy(), theirs.coef_, atol=2e-3)


def test_lbfgs_turns_every_source_of_noise_off_and_says_so() -> None:
    noisy = test_session.settings("mlp", optimizer="lbfgs", precision="bfloat16")
    heard: list[Event] = []
    with listening(heard.append):
        start = test_session.session(noisy)
    [finding] = [event for event in heard if isinstance(event, Finding)]
    assert finding.kind == "full batch"
    assert "shuffling and dropout are off, and so are flip, translate, cutout, grow, precision." in finding.detail
    kept = start.settings
    assert (kept.flip, kept.translate, kept.cutout, kept.grow, kept.precision) == (False, 0.0, 0.0, False, "float32")
    assert start.forward.precision == torch.float32


def test_the_loss_over_all_images_has_no_dropout_and_is_the_same_each_time() -> None:
    for network in (two_layers(0.5), nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))):
        full = full_batch(session(network, optimizer="lbfgs", weight_decay=0.0, label_smoothing=0.0))
        one, other = full.objective.slope(), full.objective.slope()
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
    network = two_layers(0.5)
    start = session(network, optimizer="lbfgs", weight_decay=0.2, label_smoothing=0.0)
    value, _ = full_batch(start).objective.slope()
    network.eval()
    length = network.first.weight.square().sum() + network.second.weight.square().sum()
    assert value == pytest.approx(float((F.cross_entropy(network(X_NCHW), Y_N) + 0.1 * length).detach()), rel=1e-6)


def test_frozen_layers_keep_their_statistics_over_all_images_too() -> None:
    frozen, trained = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    convolutions = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
    trunk = nn.Sequential(convolutions[0], frozen, convolutions[1], trained, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = zoo.transferred(trunk, classes=CLASSES, side=test_session.SIDE)
    settings = test_session.settings(optimizer="lbfgs", frozen=0.5, flip=False)
    images = ArrayImages(test_session.X_NHWC, test_session.Y_N)
    for _ in Session(Forward.of(network, settings), images, test_session.NAMES, settings).run(Pace.fixed(3)):
        pass
    means = [norm.running_mean for norm in (frozen, trained)]
    assert [bool(mean_C.any()) for mean_C in means if mean_C is not None] == [False, True]


class Scaled(nn.Module):
    """Scores that are the first pixels, each times a factor of its own: there is no matrix to penalise."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_K = nn.Parameter(torch.ones(CLASSES))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.flatten(1)[:, :CLASSES] * self.scale_K


def test_a_module_without_matrices_has_no_penalty_over_all_images_either() -> None:
    network = Scaled()
    for _ in session(network, optimizer="lbfgs", label_smoothing=0.0).run(Pace.fixed(100)):
        pass
    scale_K = network.scale_K.detach().requires_grad_()
    loss = F.cross_entropy(X_NCHW.flatten(1)[:, :CLASSES] * scale_K, Y_N)
    assert float(torch.autograd.grad(loss, scale_K)[0].abs().max()) < 1e-5


def test_a_loss_over_all_images_that_is_no_number_ends_the_training() -> None:
    network = two_layers()
    nn.init.constant_(network.first.weight, np.inf)
    with pytest.raises(TrainingError, match="The loss over all training images is nan at step 1; look for extreme"):
        next(iter(session(network, optimizer="lbfgs").run(Pace.fixed(3))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.1),
        ("lowest_rate", 0.1),
        ("warmup", 0.1),
        ("thaw", 0.5),
        ("accumulate", 2),
        ("clip", 1.0),
        ("ema", 0.9),
        ("l1", 0.1),
        ("l2", 0.1),
        ("test_views", 4),
        ("balance", "sampling"),
    ],
)
def test_what_has_no_meaning_for_lbfgs_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"finds the length of each step itself: leave out {name}"):
        TrainSettings(optimizer="lbfgs", **{name: value})


def test_one_cycle_warms_up_by_itself() -> None:
    rates = [session(optimizer="adam", schedule="one_cycle", learning_rate=1.0).learning_rate(p) for p in (0.0, 0.3)]
    assert rates == pytest.approx([0.04, 1.0])
    assert session(optimizer="adam", schedule="cosine", learning_rate=1.0).learning_rate(0.0) == 0.0
    assert replace(session(), settings=TrainSettings(optimizer="lbfgs")).learning_rate(0.7) == 1.0
