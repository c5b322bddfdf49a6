"""What every augmentation has in common, what mixes are made of, and labels that are mixed."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Generator, Tensor

from saccade import augment
from saccade.augment import MIXED, MIXES, TABLE
from saccade.errors import InputError
from saccade.strengths import POLICIES, STRENGTHS, parse_augment

EVERY: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {**TABLE, **MIXES}
STRONG = {name: each.strong for name, each in {**STRENGTHS, **POLICIES}.items()}
NO_OWN_AMOUNT = ("mirror", "upside_down")


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, h: int = 16, w: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, h, w, 3), generator=rng(9), dtype=torch.uint8)


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_what_settings_know_is_what_there_is() -> None:
    assert list(TABLE) == list(STRENGTHS)
    assert set(MIXES) == set(POLICIES)
    assert all(0 < each.usual <= each.strong <= each.most for each in (*STRENGTHS.values(), *POLICIES.values()))


@pytest.mark.parametrize("name", EVERY)
class TestEvery:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
    def test_strength_zero_changes_no_bit(self, name: str, dtype: torch.dtype) -> None:
        x_NHWC = images(5, 9, 7).to(dtype)
        assert torch.equal(EVERY[name](x_NHWC, 0.0, rng()), x_NHWC)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    @pytest.mark.parametrize(("h", "w"), [(6, 11), (1, 1), (2, 1)])
    def test_shape_type_and_range_stay(self, name: str, dtype: torch.dtype, h: int, w: int) -> None:
        out = EVERY[name](images(3, h, w).to(dtype), STRONG[name], rng())
        assert (out.shape, out.dtype) == ((3, h, w, 3), dtype)
        assert 0 <= float(out.min()) <= float(out.max()) <= 255

    def test_each_image_draws_its_own_amount(self, name: str) -> None:
        out = EVERY[name](images(1).expand(64, -1, -1, -1), STRONG[name], rng())
        different = len(out.flatten(1).unique(dim=0))
        assert different == 2 if name in NO_OWN_AMOUNT else different > 24

    def test_the_generator_alone_decides(self, name: str) -> None:
        x_NHWC = images(8)
        before, state = x_NHWC.clone(), torch.get_rng_state()
        drawn = EVERY[name](x_NHWC, STRONG[name], rng(1))
        assert torch.equal(EVERY[name](x_NHWC, STRONG[name], rng(1)), drawn)
        assert not torch.equal(EVERY[name](x_NHWC, STRONG[name], rng(2)), drawn)
        assert torch.equal(x_NHWC, before), "the batch given is left as it was"
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.usefixtures("_threads")
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_same_seed_same_pixels_on_one_thread_and_two(self, name: str, dtype: torch.dtype) -> None:
        x_NHWC = images(48, 45, 43).to(dtype)
        out = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out.append(EVERY[name](x_NHWC, STRONG[name], rng(4)))
        assert torch.equal(*out)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    def test_a_gpu_draws_the_same(self, name: str) -> None:
        x_NHWC = images(16)
        here, there = (EVERY[name](x.float(), STRONG[name], rng(4)).cpu() for x in (x_NHWC, x_NHWC.cuda()))
        assert float((here - there).abs().mean()) < 0.05


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", TABLE)
def test_an_image_with_strength_zero_stays_to_the_bit(name: str, dtype: torch.dtype) -> None:
    x_NHWC = images(8).to(dtype)
    strength_N = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1], dtype=torch.float64) * STRENGTHS[name].most
    out = augment.apply(x_NHWC, {name: strength_N}, rng())
    assert torch.equal(out[::2], x_NHWC[::2])
    assert not torch.equal(out[1::2], x_NHWC[1::2])


def test_trivialaugment_is_one_augmentation_an_image_and_randaugment_several() -> None:
    x_NHWC = images(600)
    changed = {name: augment.trivialaugment(x_NHWC, 1.0, rng(), names=(name, "mirror")) for name in ("noise", "rotate")}
    for out in changed.values():
        flipped = (out == x_NHWC.flip(2)).flatten(1).all(1)
        kept = (out == x_NHWC).flatten(1).all(1)
        # Half of the images draw mirror, at up to 0.5: an eighth of all is mirrored, three eighths stay.
        assert float(flipped.float().mean()) == pytest.approx(1 / 8, abs=0.05)
        assert float(kept.float().mean()) == pytest.approx(3 / 8, abs=0.07)
    both = augment.randaugment(x_NHWC, 1.0, rng(), names=("noise", "brightness"), each=2)
    assert not (both == x_NHWC).flatten(1).all(1).any()
    assert "mirror" not in MIXED


CENTRE, SLOPE = 40, 3.0
RAMP = 128 + SLOPE * (torch.arange(2 * CENTRE + 1.0) - CENTRE).expand(2 * CENTRE + 1, -1)


def angle(x_NHWC: Tensor) -> Tensor:
    """Return by how many degrees the ramp is turned, as its rise down the middle column says."""
    rise_N = (x_NHWC[:, CENTRE + 5, CENTRE, 0] - x_NHWC[:, CENTRE - 5, CENTRE, 0]) / (10 * SLOPE)
    return rise_N.double().asin().rad2deg()


AMOUNTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rotate": angle,
    "translate": lambda x_NHWC: (x_NHWC[:, CENTRE, CENTRE, 0] - 128).double() / SLOPE / (2 * CENTRE + 1),
    "brightness": lambda x_NHWC: x_NHWC[:, CENTRE, CENTRE, 0].double() / 128 - 1,
    "hue": lambda x_NHWC: (
        torch.where(x_NHWC[:, CENTRE, CENTRE, 1] > 0, 1, -1) * x_NHWC[:, CENTRE, CENTRE, 1:].amax(1).double() / 128 / 6
    ),
    "noise": lambda x_NHWC: (x_NHWC[:, :, CENTRE].double() - 128).flatten(1).std(1) / 255,
}
"""By how much images were changed, read off their pixels."""


def applied(name: str, mix: str, n: int = 1200) -> Tensor:
    """Return the amounts by which the mix of this augmentation alone changes images made to show them."""
    image_HWC = (
        RAMP[..., None].expand(-1, -1, 3) if name in ("rotate", "translate") else RAMP.new_full((81, 81, 3), 128)
    )
    if name == "hue":
        image_HWC = image_HWC * torch.tensor([1.0, 0, 0])
    draws = rng(5)
    parts = [image_HWC.expand(100, -1, -1, -1).contiguous() for _ in range(n // 100)]
    more = {"each": 1} if mix == "randaugment" else {}
    return torch.cat([AMOUNTS[name](MIXES[mix](x_NHWC, 1.0, draws, names=(name,), **more)) for x_NHWC in parts])


@pytest.mark.parametrize("name", AMOUNTS)
class TestMixes:
    def test_trivialaugments_amount_is_uniform_up_to_the_strength_and_its_sign_a_coin(self, name: str) -> None:
        share_N = (applied(name, "trivialaugment") / STRENGTHS[name].strong).numpy()
        pixel = 1 / (2 * CENTRE + 1) / STRENGTHS[name].strong if name == "translate" else 0.0
        blurred_N = np.abs(share_N) + np.random.default_rng(0).uniform(-pixel / 2, pixel / 2, len(share_N))
        assert stats.kstest(blurred_N, "uniform").pvalue > 1e-3
        assert np.abs(share_N).mean() == pytest.approx(0.5, abs=0.03)
        if name != "noise":
            assert (share_N > 0).mean() == pytest.approx(0.5, abs=0.05)

    def test_randaugments_amount_is_the_strength_and_its_sign_a_coin(self, name: str) -> None:
        share_N = (applied(name, "randaugment", 400) / STRENGTHS[name].strong).numpy()
        np.testing.assert_allclose(np.abs(share_N), 1, rtol=0.2 if name == "noise" else 0.02)
        if name != "noise":
            assert (share_N > 0).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("blend", [augment.mixup, augment.cutmix])
def test_no_blend_at_strength_zero(blend: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    x_NHWC = images(6)
    out, _, share_N = blend(x_NHWC, 0.0, rng())
    assert torch.equal(out, x_NHWC)
    assert share_N.tolist() == [1.0] * 6


def test_mixup_averages_images_by_the_shares_of_their_labels() -> None:
    x_NHWC = images(500).float()
    out, other_N, share_N = augment.mixup(x_NHWC, 0.4, rng())
    assert sorted(other_N.tolist()) == list(range(500))
    own = share_N[:, None, None, None]
    torch.testing.assert_close(
        out.double(), own * x_NHWC.double() + (1 - own) * x_NHWC[other_N].double(), atol=1e-4, rtol=0
    )
    assert stats.kstest(share_N.numpy(), stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_cutmix_weighs_labels_by_the_pixels_that_are_left() -> None:
    place = torch.arange(500, dtype=torch.float64)[:, None, None, None].expand(-1, 20, 14, 3).contiguous()
    out, other_N, share_N = augment.cutmix(place, 1.0, rng())
    own_N = torch.arange(500)
    from_other = (out[..., 0] == other_N[:, None, None]) & (other_N != own_N)[:, None, None]
    from_own = out[..., 0] == own_N[:, None, None]
    assert bool((from_own | from_other).all())
    kept_N = from_own.double().mean((1, 2))
    torch.testing.assert_close(share_N[other_N != own_N], kept_N[other_N != own_N])
    hidden = from_other.any(2).sum(1) * from_other.any(1).sum(1)
    assert torch.equal(hidden, from_other.sum((1, 2))), "a full rectangle"
    assert float(share_N.mean()) > 0.5, "never more is cut out than was drawn"


def test_mixed_labels_cost_the_mean_of_both_losses() -> None:
    scores_NK, y_N = torch.randn(40, 7, generator=rng()), torch.randint(7, (40,), generator=rng(1))
    _, other_N, share_N = augment.mixup(images(40), 0.3, rng())
    target_NK = augment.targets(y_N, other_N, share_N, 7)
    np.testing.assert_allclose(target_NK.sum(1), 1, rtol=1e-6)
    loss = F.cross_entropy(scores_NK, target_NK, reduction="none", label_smoothing=0.1)
    each = [F.cross_entropy(scores_NK, y, reduction="none", label_smoothing=0.1) for y in (y_N, y_N[other_N])]
    share_N = share_N.float()
    torch.testing.assert_close(loss, share_N * each[0] + (1 - share_N) * each[1])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("rotat", 'there is no augmentation "rotat"; did you mean "rotate"?'),
        (["zebra"], 'there is no augmentation "zebra"; known are upside_down, crop, rotate'),
        ({"rotate": 181}, "rotate takes a number from 0 to 180 (degrees turned)"),
        ({"noise": "much"}, "noise takes a number from 0 to 1"),
        ({"noise": True}, "noise takes a number from 0 to 1"),
        ({"cutout": 0.2}, "cutout is a setting of its own, such as cutout=0.25"),
        ("mixup", "mixup is a setting of its own, such as mixup=0.2"),
        (
            [{"rotate": 15}],
            "expected names such as rotate, or a mapping of them such as {rotate: 15}, not {'rotate': 15}",
        ),
        (3, "expected a name such as trivialaugment, or names with strengths such as {rotate: 15}"),
    ],
)
def test_wrong_augmentations_are_refused(given: object, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the text is read below)
        parse_augment(given)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda x: augment.apply(x, {"rotat": 5}, rng()), 'There is no augmentation "rotat". Did you mean "rotate"?'),
        (
            lambda x: augment.randaugment(x, 1.0, rng(), names=("rotat",)),
            'There is no augmentation "rotat". Did you mean "rotate"?',
        ),
        (lambda x: augment.apply(x, {"hue": float("nan")}, rng()), "hue has the strength nan; give a finite number,"),
        (lambda x: augment.apply(x, {"rotate": -5}, rng()), "rotate has the strength -5; give a finite number, at"),
        (
            lambda x: augment.apply(x, {"noise": torch.tensor([0.1, float("inf")])}, rng()),
            "noise has the strength inf; give a finite number, at least 0.",
        ),
        (
            lambda x: augment.apply(x, {"noise": torch.tensor([0.1, float("nan")])}, rng()),
            "noise has the strength nan; give a finite number, at least 0.",
        ),
        (
            lambda x: augment.apply(x, {"noise": torch.tensor([0.1])}, rng()),
            "noise has strengths of shape (1,) for 2 images; give one number, or (N,).",
        ),
        *(
            (
                lambda x, name=name: augment.apply(x.permute(0, 3, 1, 2), {name: 0.1}, rng()),
                "Images of shape (2, 3, 16, 16) have no colours to change; give three channels last,",
            )
            for name in ("brightness", "contrast", "saturation", "pca", "hue")
        ),
        (lambda x: augment.colour_axes(x[..., :1]), "Images of shape (2, 16, 16, 1) have no colours to change; give"),
        (
            lambda x: augment.targets(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0.5]), 2),
            "Labels, other images and shares of shapes (2,), (2,), (1,) do not fit; give one of each an image.",
        ),
        (lambda x: augment.mixup(x, -1.0, rng()), "Images cannot be mixed at the strength -1; give a finite number,"),
        (lambda x: augment.cutmix(x, float("nan"), rng()), "Images cannot be mixed at the strength nan; give a finite"),
    ],
)
def test_what_would_change_images_wrongly_is_refused(wrong: Callable[[Tensor], object], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        wrong(images(2))
    assert sentence in str(refused.value)


def test_names_alone_are_as_usual() -> None:
    assert parse_augment("trivialaugment") == {"trivialaugment": 1}
    assert parse_augment(["rotate", "blur"]) == {"rotate": 15, "blur": 0.02}
    assert parse_augment({"rotate": 0}) == {"rotate": 0}
    assert parse_augment({"rotate": "7.5"}) == {"rotate": 7.5}
    assert parse_augment(None) == {}
