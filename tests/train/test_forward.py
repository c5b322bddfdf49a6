"""Forward: how images are put to a network, and what it says of them from both sides."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from saccade.nn import zoo
from saccade.settings import TrainSettings
from saccade.train import Forward

CPU = torch.device("cpu")


def images(n: int, side: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, side, side, 3), generator=draw, dtype=torch.uint8)


def scorer(side: int, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    network = zoo.build("linear", classes=classes, side=side)
    zoo.fit_to(network, images(50, side))
    return network


@pytest.mark.parametrize("side", [8, 12, 20])
def test_bytes_become_input_as_torchvision_resizes_them(side: int) -> None:
    x_NHWC = images(3, 12)
    given = Forward(scorer(12), 12, False, CPU)
    x_NCHW = given.to_input(x_NHWC, side)
    assert (x_NCHW.shape, x_NCHW.dtype) == ((3, 3, side, side), torch.float32)
    expected = v2.functional.resize(x_NHWC.permute(0, 3, 1, 2).float(), [side, side], antialias=True)
    torch.testing.assert_close(x_NCHW, expected)
    assert given.to_input(images(2, 30)).shape == (2, 3, 12, 12)
    if side == 12:
        assert torch.equal(x_NCHW, x_NHWC.permute(0, 3, 1, 2).float())


def test_what_is_not_bytes_is_input_already() -> None:
    x = torch.rand(2, 5, 7)
    assert Forward(nn.Identity(), 12, False, CPU).to_input(x) is x


def test_probabilities_are_the_softmax_in_float64() -> None:
    network, x_NHWC = scorer(8), images(9, 8)
    forward = Forward(network, 8, False, CPU)
    log_NK = forward.log_probabilities(x_NHWC).numpy()
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    x = x_NHWC.numpy().transpose(0, 3, 1, 2).astype(np.float64)
    x = (x - weights["standardize.mean_C"][:, None, None]) / weights["standardize.sd_C"][:, None, None]
    scores_NK = x.reshape(9, -1) @ weights["body.1.weight"].T + weights["body.1.bias"]
    expected = scores_NK - np.log(np.exp(scores_NK).sum(1, keepdims=True))
    np.testing.assert_allclose(log_NK, expected, atol=1e-5)


@pytest.mark.parametrize("as_float", [False, True])
def test_views_average_the_scores_of_an_image_and_its_mirror_image(as_float: bool) -> None:
    network, x = scorer(8).eval(), images(6, 8)
    x_NCHW = x.permute(0, 3, 1, 2).float()
    with torch.no_grad():
        both = (network(x_NCHW) + network(v2.functional.horizontal_flip(x_NCHW))) / 2
    given = x_NCHW if as_float else x
    forward = Forward(network, 8, True, CPU)
    torch.testing.assert_close(forward.log_probabilities(given), both.log_softmax(1))
    alone = forward.log_probabilities(given, over_views=False)
    assert torch.equal(alone, Forward(network, 8, False, CPU).log_probabilities(given))
    assert not torch.allclose(alone, both.log_softmax(1), atol=1e-3)
    mirrored = forward.log_probabilities(given.flip(3 if as_float else 2))
    torch.testing.assert_close(mirrored, forward.log_probabilities(given))


@pytest.mark.parametrize("training", [True, False])
def test_scores_are_those_of_evaluation_and_the_mode_is_put_back(training: bool) -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Dropout(0.5), nn.Linear(48, 2)).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    forward = Forward(network, 4, False, CPU)
    x = images(5, 4)
    scores_NK = forward.scores(x)
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(forward.scores(x), scores_NK)
    assert not scores_NK.requires_grad
    assert scores_NK.dtype == torch.float32


def test_bfloat16_is_close_to_float32() -> None:
    network, x = zoo.build("convnet", classes=5, side=16, width=0.25), images(4, 16)
    zoo.fit_to(network, images(40, 16))
    exact = Forward(network, 16, False, CPU).log_probabilities(x)
    rough = Forward(network, 16, False, CPU, torch.bfloat16).log_probabilities(x)
    assert rough.dtype == torch.float32
    assert 0 < float((exact.exp() - rough.exp()).abs().max()) < 0.03


def test_settings_say_side_views_device_and_precision() -> None:
    settings = TrainSettings(size=16, views=True, device="cpu", precision="bfloat16")
    forward = Forward.of(nn.Conv2d(3, 2, 1), settings)
    assert (forward.side, forward.views, forward.device, forward.precision) == (16, True, CPU, torch.bfloat16)
    assert not Forward.of(nn.Conv2d(3, 2, 1), TrainSettings(size=16)).views


def test_the_temperature_is_the_best_there_is_and_changes_no_prediction() -> None:
    x_NHWC = images(200, 8)
    y_N = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(1)).numpy()
    first = replace(Forward(scorer(8), 8, False, CPU), temperature=0.1)
    log_NK = first.log_probabilities(x_NHWC).double().numpy()
    y_N[::2] = log_NK.argmax(1)[::2]
    calibrated = first.calibrated(log_NK, y_N)
    again_NK = calibrated.log_probabilities(x_NHWC).double().numpy()
    np.testing.assert_array_equal(again_NK.argmax(1), log_NK.argmax(1))

    def loss(scale: float) -> float:
        return float(F.cross_entropy(torch.from_numpy(log_NK / scale), torch.from_numpy(y_N)))

    grid = np.geomspace(0.05, 20, 2000)
    best = grid[np.argmin([loss(scale) for scale in grid])]
    assert 0.06 < best < 18
    assert calibrated.temperature / first.temperature == pytest.approx(best, rel=0.01)
    assert -again_NK[np.arange(200), y_N].mean() == pytest.approx(loss(best), abs=1e-4)
    assert loss(best) < loss(1.0) - 0.01


def test_predictions_go_on_with_fewer_images_at_once_where_memory_runs_out() -> None:
    network, x_NHWC, seen = scorer(8), images(20, 8), list[int]()
    forward = Forward(network, 8, False, CPU)
    expected_NK = forward.log_probabilities(x_NHWC)

    def hungry(most: int, error: type[BaseException]) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def refuse(_: nn.Module, inputs: tuple[Tensor]) -> None:
            seen.append(len(inputs[0]))
            if len(inputs[0]) > most:
                raise error("shapes differ")

        return refuse

    hook = network.register_forward_pre_hook(hungry(6, torch.OutOfMemoryError))
    torch.testing.assert_close(forward.log_probabilities(x_NHWC), expected_NK)
    assert seen == [20, 10, 5, 5, 5, 5]
    hook.remove()
    for most, error in ((0, torch.OutOfMemoryError), (6, RuntimeError)):
        hook = network.register_forward_pre_hook(hungry(most, error))
        with pytest.raises(error, match="shapes differ"):
            forward.log_probabilities(x_NHWC)
        hook.remove()
