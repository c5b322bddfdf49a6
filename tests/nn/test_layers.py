"""Standardising and whitening against NumPy in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from saccade.nn.layers import Standardize, WhiteningConv


def images(n: int, side: int = 12, seed: int = 0) -> torch.Tensor:
    """Return smooth, coloured images: neighbouring pixels and channels are correlated."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, side // 2, side // 2, generator=draw)
    smooth = F.interpolate(coarse, size=(side, side), mode="bilinear")
    mixed = torch.einsum("nchw,cd->nhwd", smooth, torch.tensor([[1.0, 0.5, 0.2], [0, 0.6, 0.1], [0, 0, 0.4]]))
    noise = 0.1 * torch.rand(n, side, side, 3, generator=draw)
    return (120 * (mixed + noise)).to(torch.uint8)


def test_mean_and_deviation_are_numpys_in_float64() -> None:
    x_NHWC = images(700)
    layer = Standardize()
    layer.fit(x_NHWC)
    exact = x_NHWC.numpy().astype(np.float64)
    np.testing.assert_allclose(layer.mean_C, exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(layer.sd_C, exact.std((0, 1, 2)), rtol=1e-6)
    out = layer(x_NHWC.permute(0, 3, 1, 2).float()).double().numpy()
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 2, 3)), 1, atol=1e-5)


def test_at_most_so_many_images_are_read_evenly_spaced() -> None:
    x_NHWC = torch.zeros(199, 2, 2, 3, dtype=torch.uint8)
    x_NHWC[1::2] = 250
    x_NHWC[:, 0] += 4
    layer = Standardize()
    layer.fit(x_NHWC, most=100)
    np.testing.assert_allclose(layer.mean_C, 2.0)
    np.testing.assert_allclose(layer.sd_C, 2.0)


def test_a_channel_that_never_varies_is_centred_and_not_scaled() -> None:
    x_NHWC = images(20)
    x_NHWC[..., 1] = 77
    layer = Standardize()
    layer.fit(x_NHWC)
    out = layer(x_NHWC.permute(0, 3, 1, 2).float())
    assert float(layer.sd_C[1]) == 1.0
    assert torch.equal(out[:, 1], torch.zeros_like(out[:, 1]))


def test_before_fitting_it_changes_nothing() -> None:
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(Standardize()(x), x)


def standardised(n: int) -> torch.Tensor:
    layer = Standardize()
    layer.fit(images(n))
    x_NCHW: torch.Tensor = layer(images(n).permute(0, 3, 1, 2).float())
    return x_NCHW


@pytest.mark.parametrize(("kernel", "components"), [(2, 12), (2, 5), (3, 27), (4, 16)])
def test_whitened_patches_have_identity_covariance(kernel: int, components: int) -> None:
    x_NCHW = standardised(300)
    layer = WhiteningConv(3, components, kernel)
    layer.fit(x_NCHW, epsilon=0.0)
    weight = layer.weight.detach().double().numpy().reshape(2 * components, -1)
    patches = x_NCHW.double().unfold(2, kernel, kernel).unfold(3, kernel, kernel)  # (N, C, H/F, W/F, F, F)
    patches_MD = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * kernel**2).numpy()
    whitened = patches_MD @ weight[:components].T
    np.testing.assert_allclose(whitened.T @ whitened / len(whitened), np.eye(components), atol=2e-4)
    np.testing.assert_array_equal(weight[components:], -weight[:components])
    strongest = np.sort(np.linalg.eigvalsh(patches_MD.T @ patches_MD / len(patches_MD)))[::-1][:components]
    np.testing.assert_allclose(np.linalg.norm(weight[:components], axis=1), strongest**-0.5, rtol=1e-3)


def test_epsilon_damps_weak_components() -> None:
    x_NCHW = standardised(200)
    layer = WhiteningConv(3, 12, 2)
    layer.fit(x_NCHW, epsilon=0.05)
    out = F.conv2d(x_NCHW.double(), layer.weight.double(), stride=2).permute(0, 2, 3, 1).reshape(-1, 24)[:, :12]
    covariance = (out.T @ out / len(out)).numpy()
    patches = F.unfold(x_NCHW.double(), 2, stride=2).transpose(1, 2).reshape(-1, 12).numpy()
    values = np.linalg.eigvalsh(patches.T @ patches / len(patches))[::-1]
    np.testing.assert_allclose(covariance, np.diag(values / (values + 0.05)), atol=1e-4)


def test_the_layer_is_the_convolution_with_its_filters_and_is_not_trained() -> None:
    layer = WhiteningConv(3, 16, kernel=4, stride=2, padding=1)
    x_NCHW = standardised(8)
    layer.fit(x_NCHW)
    assert layer(x_NCHW).shape == (8, 32, 6, 6)
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_at_most_so_many_patches_are_read() -> None:
    first, second = standardised(2)[:1], 5 * standardised(2)[1:]
    apart, both = WhiteningConv(3, 12, 12), WhiteningConv(3, 12, 12)  # one patch an image
    apart.fit(first.expand(50, -1, -1, -1))
    both.fit(torch.cat([first, second]).repeat(50, 1, 1, 1)[:99], most=50)
    assert torch.equal(apart.weight[0].abs(), both.weight[0].abs())
