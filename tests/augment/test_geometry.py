"""Augmentations against NumPy's reflection and torchvision's, and what all of them have in common."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2

from saccade.augment import cutout, mirror, translate

AUGMENTATIONS: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {"translate": translate, "cutout": cutout}


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, h: int, w: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, h, w, 3), generator=rng(seed), dtype=torch.uint8)


@pytest.mark.parametrize("width", [1, 8, 9])
def test_mirror_is_torchvisions_horizontal_flip(width: int) -> None:
    x_NHWC = images(6, 5, width)
    chosen_N = torch.tensor([True, False, True, True, False, False])
    flipped = v2.functional.horizontal_flip(x_NHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    mirrored = mirror(x_NHWC, chosen_N)
    assert torch.equal(mirrored[chosen_N], flipped[chosen_N])
    assert torch.equal(mirrored[~chosen_N], x_NHWC[~chosen_N])


@pytest.mark.parametrize(("height", "width", "strength"), [(12, 12, 0.25), (8, 20, 0.5), (5, 3, 1.0), (1, 4, 0.5)])
def test_translate_is_padding_by_reflection_and_a_crop(height: int, width: int, strength: float) -> None:
    x_NHWC = images(40, height, width)
    moved = translate(x_NHWC, strength, rng(7)).numpy()
    most_h, most_w = (min(round(strength * side), side - 1) for side in (height, width))
    draws = rng(7)
    down_N = torch.randint(-most_h, most_h + 1, (40,), generator=draws).tolist()
    right_N = torch.randint(-most_w, most_w + 1, (40,), generator=draws).tolist()
    for x_HWC, moved_HWC, down, right in zip(x_NHWC.numpy(), moved, down_N, right_N, strict=True):
        padded = np.pad(x_HWC, ((most_h, most_h), (most_w, most_w), (0, 0)), mode="reflect")
        top, left = most_h + down, most_w + right
        np.testing.assert_array_equal(moved_HWC, padded[top : top + height, left : left + width])


def test_translate_draws_every_shift_in_range_and_no_other() -> None:
    place = torch.arange(16, dtype=torch.uint8)
    x_NHWC = torch.stack([place.expand(16, 16), place[:, None].expand(16, 16)], -1).repeat(500, 1, 1, 1)
    centre_N2 = translate(x_NHWC, 0.125, rng())[:, 8, 8].long() - 8
    assert set(map(tuple, centre_N2.tolist())) == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.375, 1.0])
def test_cutout_hides_one_square_of_its_side_with_the_mean_colour(strength: float) -> None:
    side, length = 16, round(strength * 16)
    x_NHWC = images(300, side, side).clamp(max=250)
    x_NHWC[..., 0] = 255  # so that the mean, hidden below, differs from every pixel
    x_NHWC[0, :8, :, 0] = 0
    out = cutout(x_NHWC, strength, rng())
    mean_C = np.floor(x_NHWC.numpy().astype(np.float64).mean((0, 1, 2))).astype(np.uint8)
    hidden_NHW = (out == torch.from_numpy(mean_C)).all(-1)
    assert torch.equal(out[~hidden_NHW], x_NHWC[~hidden_NHW])
    whole = 0
    for hidden_HW in hidden_NHW:
        rows, cols = hidden_HW.any(1).nonzero()[:, 0], hidden_HW.any(0).nonzero()[:, 0]
        height, width = len(rows), len(cols)
        assert int(rows[-1] - rows[0]) + 1 == height
        assert int(hidden_HW.sum()) == height * width, "a full rectangle"
        assert length // 2 <= min(height, width) <= max(height, width) <= length
        whole += height == width == length
        for places, count in ((rows, height), (cols, width)):
            assert count == length or 0 in places or side - 1 in places, "smaller only at the border"
    inside = (side - length + 1) / side
    assert whole / 300 == pytest.approx(inside**2, abs=0.1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
class TestEvery:
    def test_strength_zero_changes_nothing(self, name: str) -> None:
        x_NHWC = images(5, 9, 7)
        assert torch.equal(AUGMENTATIONS[name](x_NHWC, 0.0, rng()), x_NHWC)

    def test_each_image_draws_its_own_amount(self, name: str) -> None:
        x_NHWC = images(1, 16, 16).expand(64, -1, -1, -1)
        out = AUGMENTATIONS[name](x_NHWC, 0.5, rng())
        assert len(out.flatten(1).unique(dim=0)) > 32

    def test_the_generator_alone_decides(self, name: str) -> None:
        x_NHWC = images(8, 16, 16)
        before = x_NHWC.clone()
        state = torch.get_rng_state()
        first = AUGMENTATIONS[name](x_NHWC, 0.5, rng(1))
        torch.rand(3)
        assert torch.equal(AUGMENTATIONS[name](x_NHWC, 0.5, rng(1)), first)
        assert not torch.equal(AUGMENTATIONS[name](x_NHWC, 0.5, rng(2)), first)
        assert torch.equal(x_NHWC, before), "the batch given is left as it was"
        torch.set_rng_state(state)
        AUGMENTATIONS[name](x_NHWC, 0.5, rng(1))
        assert torch.equal(torch.get_rng_state(), state)

    def test_shape_and_type_stay(self, name: str) -> None:
        out = AUGMENTATIONS[name](images(3, 6, 9), 0.3, rng())
        assert (out.shape, out.dtype) == ((3, 6, 9, 3), torch.uint8)
