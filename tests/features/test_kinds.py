"""Each kind of features against something that did not produce it: scikit-image, scikit-learn, NumPy, torchvision."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.special import softmax
from skimage.color import rgb2hsv
from skimage.feature import hog
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_images
from torchvision.models import squeezenet1_0

import saccade
from saccade.errors import InputError, ModelError, SettingError
from saccade.events import Event, Finding, listening
from saccade.features import (
    HOG,
    ColourHistogram,
    DeepFeatures,
    ImageFeatures,
    Stacked,
    VisualWords,
    cache,
    kmeans,
    words,
)
from saccade.features.triangles import triangles

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photos() -> Images:
    """Return 64 squares of 32 px cut out of scikit-learn's two photos."""
    whole = np.stack(load_sample_images().images)[:, ::4, ::4]
    cut = [whole[i, r : r + 32, c : c + 32] for i in range(2) for r in range(0, 64, 16) for c in range(0, 128, 16)]
    return np.ascontiguousarray(cut)


@pytest.mark.parametrize("norm", ["L1", "L1-sqrt", "L2", "L2-Hys"])
@pytest.mark.parametrize(("orientations", "cell", "block"), [(9, 8, 3), (8, 4, 2), (12, 5, 1), (1, 16, 2), (7, 3, 2)])
def test_hog_is_that_of_scikit_image(photos: Images, norm: str, orientations: int, cell: int, block: int) -> None:
    x = np.concatenate([photos[:8], np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)])
    x[0] = 0  # flat
    x[1] = np.arange(32, dtype=np.uint8)[:, None, None]  # one direction, at the edge of a bin
    x[2] = np.arange(32, dtype=np.uint8)[:, None] + np.arange(32, dtype=np.uint8)[None, :, None]  # 45 degrees
    ours = HOG(orientations, cell, block, norm).fit_transform(x)
    theirs = [hog(each, orientations, (cell, cell), (block, block), norm, channel_axis=-1) for each in x]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    grey = HOG(orientations, cell, block, norm).fit_transform(x[..., 0])
    theirs = [hog(each[..., 0], orientations, (cell, cell), (block, block), norm) for each in x]
    np.testing.assert_allclose(grey, theirs, atol=1e-5)


def test_hog_of_many_images_of_any_layout_is_that_of_each(photos: Images) -> None:
    many = np.concatenate([photos] * 20)[:1100, 3:30, ::-1]  # more than are computed at once, 27 x 32 px, not in place
    ours = HOG(cell=4).fit(many).transform(many)
    theirs = hog(many[1099], 9, (4, 4), (2, 2), "L2-Hys", channel_axis=-1)
    np.testing.assert_allclose(ours[1099], theirs, atol=1e-5)
    np.testing.assert_array_equal(ours[64:128], ours[:64])
    assert not HOG(cell=1, block=1).fit_transform(photos[:1, :1, :1]).any()  # one pixel has no gradient


def test_hues_are_those_of_scikit_image(photos: Images) -> None:
    ours = ColourHistogram("hue", bins=12, cells=2).fit_transform(photos)
    for x_HWC, row in zip(photos, ours, strict=True):
        hsv = rgb2hsv(x_HWC)
        chroma = np.ptp(x_HWC.astype(float), axis=2) / 255
        expected = [
            np.histogram(hsv[r : r + 16, c : c + 16, 0], 12, (0, 1), weights=chroma[r : r + 16, c : c + 16])[0] / 256
            for r in (0, 16)
            for c in (0, 16)
        ]
        np.testing.assert_allclose(row.reshape(4, 12).sum(), np.sum(expected), rtol=1e-5)
        np.testing.assert_allclose(row, np.ravel(expected), atol=0.02)  # a hue on an edge may fall to either side


def test_joint_rgb_is_a_histogram_of_three_dimensions(photos: Images) -> None:
    ours = ColourHistogram("rgb", bins=4, cells=1).fit_transform(photos)
    expected = [np.histogramdd(x.reshape(-1, 3), 4, [(0, 256)] * 3)[0].ravel() / 1024 for x in photos]
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    np.testing.assert_allclose(ours.sum(1), 1, rtol=1e-5)


def patches(x: Images, patch: int, stride: int) -> NDArray[np.float64]:
    """Return patches (N, places, D) of even brightness and contrast, by loops in float64."""
    places = range(0, x.shape[1] - patch + 1, stride)
    cut = [[each[r : r + patch, c : c + patch] for r in places for c in places] for each in x.astype(np.float64)]
    flat = np.moveaxis(np.array(cut), -1, 2).reshape(len(x), len(places) ** 2, -1)
    flat -= flat.mean(2, keepdims=True)
    return np.asarray(flat / np.sqrt((flat**2).mean(2, keepdims=True) + 400))


@pytest.mark.parametrize("assignment", ["hard", "soft", "triangle"])
def test_words_are_assigned_as_defined(photos: Images, assignment: str) -> None:
    words = VisualWords(words=20, patch=6, stride=2, assignment=assignment, cells=2).fit(photos)
    within = 1e-2 if words._tensors[0].dtype == torch.bfloat16 else 2e-4  # of averages up to 6
    z = (patches(photos[:5], 6, 2) - words.mean_) @ words.whitening_.astype(np.float64)
    squared = ((z[:, :, None] - words.words_) ** 2).sum(3)
    if assignment == "hard":
        shares = np.eye(20)[squared.argmin(2)]
    elif assignment == "soft":
        shares = softmax(squared / (-2 * words.spread_[0]), axis=2)
    else:
        shares = np.maximum(0, np.sqrt(squared).mean(2, keepdims=True) - np.sqrt(squared))
    grid = shares.reshape(5, 14, 14, 20)
    expected = [grid[:, r : r + 7, c : c + 7].mean((1, 2)) for r in (0, 7) for c in (0, 7)]
    expected_ND = np.stack(expected, 2).reshape(5, -1)
    np.testing.assert_allclose(words.transform(photos[:5]), expected_ND, rtol=1e-3, atol=within)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns", "words", "cells"), [(27, 27, 5, 2), (8, 9, 40, 3), (1, 1, 1, 1)])
def test_triangles_are_those_of_float64(rows: int, columns: int, words: int, cells: int, dtype: torch.dtype) -> None:
    made = torch.Generator().manual_seed(0)
    products = torch.randn(3, rows, columns, words, generator=made).to(dtype)
    norms, own = torch.rand(3, rows, columns, generator=made), 1 + torch.rand(words, generator=made)
    squared = norms.double()[..., None] + own.double() - 2 * products.double()
    distances = squared.clamp(min=0).sqrt()
    shares = (distances.mean(-1, keepdim=True) - distances).clamp(min=0)
    expected = torch.nn.functional.adaptive_avg_pool2d(shares.permute(0, 3, 1, 2), cells)
    ours = triangles(products, norms, own, cells)
    np.testing.assert_allclose(ours, expected.flatten(2).transpose(1, 2), atol=2e-6)


def test_whitened_descriptors_have_round_covariance(photos: Images) -> None:
    words = VisualWords(words=4, patch=3, stride=1).fit(photos)
    z = patches(photos, 3, 1).reshape(-1, 27)
    white = (z - z.mean(0)) @ words.whitening_
    values = np.linalg.eigvalsh(np.cov(z.T))
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(white.T)), values / (values + 0.3), atol=0.05)
    assert np.diag(np.cov(white.T)).min() > 0.1


@pytest.mark.parametrize("k", [2, 40])
def test_inertia_is_within_a_hundredth_of_scikit_learn(photos: Images, k: int) -> None:
    x = patches(photos, 6, 1).reshape(-1, 108).astype(np.float32)
    ours = kmeans(x, k, seed=0)
    theirs = KMeans(k, n_init=1, random_state=0).fit(x)
    assert ours.inertia <= 1.01 * theirs.inertia_
    exact = ((x[:, None].astype(np.float64) - ours.centres_KD) ** 2).sum(2).min(1).sum() if k == 2 else None
    assert exact is None or ours.inertia == pytest.approx(exact, rel=1e-5)


def test_clusters_that_are_far_apart_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[0, 0], [100, 0], [0, 100], [100, 100], [50, 300]], np.float32)
    x = (truth[rng.integers(0, 5, 3000)] + rng.normal(0, 1, (3000, 2))).astype(np.float32)
    found = kmeans(x, 5, seed=1).centres_KD
    np.testing.assert_allclose(found[np.lexsort(found.T.round())], truth[np.lexsort(truth.T)], atol=0.2)


def test_more_centres_than_different_rows() -> None:
    found = kmeans(np.repeat(np.eye(3, dtype=np.float32), 4, 0), 6, seed=0)
    assert found.inertia == pytest.approx(0, abs=1e-6)
    assert np.isfinite(found.centres_KD).all()


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(1)
    network = squeezenet1_0().eval()
    file = tmp_path_factory.mktemp("weights") / "squeezenet1_0.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    return file, network


@pytest.mark.parametrize("stage", ["features.0", "features.3.squeeze", "features.12", None])
def test_deep_features_are_the_networks_own(
    photos: Images, squeezenet: tuple[Path, torch.nn.Module], stage: str | None
) -> None:
    file, network = squeezenet
    ours = DeepFeatures(f"squeezenet1_0={file}", stage, size=64, precision="float32").fit_transform(photos[:4])
    x = torch.from_numpy(photos[:4]).permute(0, 3, 1, 2) / 255
    x = torch.nn.functional.interpolate(x, (64, 64), mode="bilinear", antialias=True)
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    found: list[torch.Tensor] = []
    network.get_submodule(stage or "features").register_forward_hook(
        lambda _m, _i, output: found.append(output.clone())
    )
    with torch.inference_mode():
        network(x)
    np.testing.assert_allclose(ours, found[0].mean((2, 3)), rtol=1e-3, atol=1e-4)


def test_stages_are_the_networks_modules(squeezenet: tuple[Path, torch.nn.Module]) -> None:
    stages = DeepFeatures(str(squeezenet[0])).stages()
    assert stages[:2] == ["features", "features.0"]
    assert {"features.3.squeeze", "features.12"} <= set(stages)


def test_a_second_time_is_read_from_disk(photos: Images, tmp_path: Path, squeezenet: Any) -> None:
    parts = [HOG(cell=8), VisualWords(words=9, stride=4), DeepFeatures(f"squeezenet1_0={squeezenet[0]}", size=33)]
    stacked = Stacked(parts, cache=tmp_path / "kept")
    first = stacked.fit_transform(photos)
    files = {file: file.stat().st_size for file in (tmp_path / "kept").iterdir()}
    assert len(files) == 3

    def never(self: ImageFeatures, x_NHWC: Images) -> None:
        pytest.fail("computed again")

    with pytest.MonkeyPatch.context() as patch:
        for part in parts:
            patch.setattr(type(part), "_learn", never)
        again = Stacked(parts, cache=tmp_path / "kept")
        np.testing.assert_array_equal(again.fit_transform(photos), first)
    np.testing.assert_array_equal(again.transform(photos[:3]), stacked.transform(photos[:3]))
    Stacked([HOG(cell=8, orientations=8)], cache=tmp_path / "kept").fit(photos)
    Stacked([HOG(cell=8)], cache=tmp_path / "kept").fit(photos[1:])
    assert len(list((tmp_path / "kept").iterdir())) == 5
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(Stacked(parts, cache=tmp_path / "kept").fit_transform(photos), first)


@pytest.mark.parametrize("file", ["native.py", "device.py", "train/forward.py", "features/words.py", "nn/zoo.py"])
def test_what_other_code_computed_is_not_taken(tmp_path: Path, file: str) -> None:
    package = tmp_path / "saccade"
    shutil.copytree(Path(saccade.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "__file__", str(package / "features" / "cache.py"))
        before = cache._code.__wrapped__()
        (package / file).write_text((package / file).read_text() + "\n# changed\n")
        assert cache._code.__wrapped__() != before


def test_what_was_computed_in_another_precision_is_not_taken(photos: Images, tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.MonkeyPatch.context() as patch:
            for module in (cache, words):
                patch.setattr(module, "resolve_precision", lambda *_, dtype=dtype: dtype)
            rows = Stacked([VisualWords(words=9, stride=4)], cache=tmp_path / "kept").fit_transform(photos)
            np.testing.assert_array_equal(rows, Stacked([VisualWords(words=9, stride=4)]).fit_transform(photos))
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_mirrored_rows_are_the_mean_of_both_views(photos: Images, tmp_path: Path) -> None:
    mirrored_NHWC = photos[:, :, ::-1]
    hog = HOG(cell=4, block=1).fit(photos)
    mean_ND = (hog.transform(photos).astype(float) + hog.transform(mirrored_NHWC)) / 2
    stacked = Stacked([HOG(cell=4, block=1)], mirrored=True, cache=tmp_path)
    rows = stacked.fit_transform(photos)
    expected = (mean_ND - mean_ND.mean(0)) / mean_ND.std(0)
    np.testing.assert_allclose(rows, expected, atol=2e-4)
    np.testing.assert_allclose(stacked.transform(mirrored_NHWC), rows, atol=1e-5)
    straight = Stacked([HOG(cell=4, block=1)], cache=tmp_path).fit_transform(photos)
    assert np.abs(straight - rows).max() > 0.1


def test_a_folder_that_cannot_be_written_is_told(photos: Images, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[Event] = []
    with listening(told.append):
        rows = Stacked([HOG()], cache=tmp_path / "file" / "in it").fit_transform(photos)
    assert len(rows) == len(photos)
    assert any("features cannot be kept in" in each.detail for each in told if isinstance(each, Finding))


def test_what_was_not_used_for_longest_goes_first(
    photos: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "GIGABYTES", 1.5 * photos.shape[0] * 324 * 4 / 2**30)
    first = Stacked([HOG()], cache=tmp_path).fit(photos)
    kept = set(tmp_path.iterdir())
    Stacked([HOG(norm="L2")], cache=tmp_path).fit(photos)
    assert len(list(tmp_path.iterdir())) == 1
    assert kept.isdisjoint(tmp_path.iterdir())
    assert first.n_features_ == 324


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    assert cache.default_folder() == tmp_path / "features"
    monkeypatch.delenv("SACCADE_CACHE")
    assert cache.default_folder().name == "features"


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (HOG(norm="L3"), 'There is no normalisation "L3"; give L1, L1-sqrt, L2, L2-Hys.'),
        (HOG(cell=0), "cell = 0 cannot be; give a whole number of at least 1."),
        (HOG(cell=True), "cell = True cannot be"),
        (HOG(orientations=2.5), "orientations = 2.5 cannot be"),  # type: ignore[arg-type]
        (HOG(orientations=100_000), "orientations = 100000 cannot be; give at most 65,536."),
        (HOG(cell=20), "have no block of 2 x 2 cells of 20 pixels"),
        (ColourHistogram("hsv"), 'There is no colour space "hsv"; give hue or rgb.'),
        (ColourHistogram(bins=0), "bins = 0 cannot be"),
        (ColourHistogram(cells=40), "has no 40 cells a side"),
        (VisualWords(descriptor="sift"), 'There is no descriptor "sift"; give patches or whitened or gradients.'),
        (VisualWords(assignment="hart"), 'Did you mean "hard"?'),
        (VisualWords(patch=40), "hold 0 patches of 40 pixels a side"),
        (VisualWords(patch=6, descriptor="gradients"), "must be a multiple of 4"),
        (VisualWords(words=10_000, stride=13), "10000 words cannot be learnt from"),
        (DeepFeatures("none"), '"none" is no pretrained network at hand'),
        (DeepFeatures("resnet19"), "resnet19"),
        (Stacked([]), "There are no features to stack; give one kind or more."),
    ],
)
def test_refusals(photos: Images, features: ImageFeatures, told: str) -> None:
    with pytest.raises((InputError, SettingError, ModelError)) as refused:
        features.fit(photos)
    assert told in str(refused.value)


def test_refusals_of_stages(photos: Images, squeezenet: tuple[Path, torch.nn.Module]) -> None:
    def refused(stage: str, **more: Any) -> str:
        with pytest.raises((ModelError, SettingError)) as error:
            DeepFeatures(f"squeezenet1_0={squeezenet[0]}", stage, **{"size": 64, **more}).fit(photos)
        return str(error.value)

    assert 'has no stage "features.99". Did you mean "features.9"?' in refused("features.99")
    assert "Known are: features, features.0" in refused("zzz")
    assert "size = 0 cannot be" in refused("features.3", size=0)
