"""Throughput of each augmentation, beside torchvision's v2 and kornia's, on batches of bytes.

    python benchmarks/augment.py [--images 256] [--side 32]

torchvision draws one amount a call, so it is called for each image, as its transforms in a loader are; kornia draws
one an image. Both take floats in 0…1; the conversion from bytes and back is part of the time, as it is of ours.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from _common import write
from torch import Tensor
from torchvision.transforms import v2

from saccade import augment
from saccade.device import generator
from saccade.strengths import POLICIES, STRENGTHS

REPEATS = 5
Change = Callable[[Tensor], Tensor]


def of_torchvision() -> dict[str, Change]:
    """Return torchvision's transforms of one image, each at about our usual strength."""
    bilinear = v2.InterpolationMode.BILINEAR
    return {
        "mirror": v2.RandomHorizontalFlip(),
        "upside_down": v2.RandomVerticalFlip(),
        "translate": v2.RandomAffine(0, translate=(0.0625, 0.0625)),
        "crop": v2.RandomResizedCrop(32, scale=(0.5, 1), antialias=True),
        "rotate": v2.RandomRotation(15, interpolation=bilinear),
        "shear": v2.RandomAffine(0, shear=(-8.5, 8.5, -8.5, 8.5), interpolation=bilinear),
        "stretch": v2.RandomAffine(0, scale=(0.87, 1.15), interpolation=bilinear),
        "perspective": v2.RandomPerspective(0.25, p=1),
        "brightness": v2.ColorJitter(brightness=0.2),
        "contrast": v2.ColorJitter(contrast=0.2),
        "saturation": v2.ColorJitter(saturation=0.3),
        "hue": v2.ColorJitter(hue=0.05),
        "blur": v2.GaussianBlur(5, (0.01, 0.64)),
        "noise": v2.GaussianNoise(sigma=0.05),
        "cutout": v2.RandomErasing(1, scale=(0.0625, 0.0625), ratio=(1, 1)),
        "randaugment": v2.RandAugment(2, 15),
        "trivialaugment": v2.TrivialAugmentWide(),
    }


def of_kornia() -> dict[str, Change]:
    """Return kornia's augmentations of a batch, each at about our usual strength."""
    import kornia.augmentation as K

    all_of = {"p": 1.0, "same_on_batch": False}
    return {
        "mirror": K.RandomHorizontalFlip(),
        "upside_down": K.RandomVerticalFlip(),
        "translate": K.RandomAffine(0, translate=(0.0625, 0.0625), **all_of),
        "crop": K.RandomResizedCrop((32, 32), scale=(0.5, 1), **all_of),
        "rotate": K.RandomRotation(15.0, **all_of),
        "shear": K.RandomAffine(0, shear=(-8.5, 8.5, -8.5, 8.5), **all_of),
        "stretch": K.RandomAffine(0, scale=(0.87, 1.15), **all_of),
        "perspective": K.RandomPerspective(0.25, **all_of),
        "brightness": K.ColorJiggle(brightness=0.2, **all_of),
        "contrast": K.ColorJiggle(contrast=0.2, **all_of),
        "saturation": K.ColorJiggle(saturation=0.3, **all_of),
        "hue": K.ColorJiggle(hue=0.05, **all_of),
        "blur": K.RandomGaussianBlur((5, 5), (0.01, 0.64), **all_of),
        "noise": K.RandomGaussianNoise(std=0.05, **all_of),
        "cutout": K.RandomErasing(scale=(0.0625, 0.0625), ratio=(1, 1), **all_of),
    }


def rate(change: Change, x: Tensor) -> float:
    """Return images a second, of the median of REPEATS batches after one that does not count."""
    change(x)
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        change(x)
        seconds.append(time.perf_counter() - begun)
    return round(len(x) / median(seconds))


def each_by_itself(change: Change, x_NCHW: Tensor) -> Tensor:
    """Change one image at a time."""
    return torch.stack([change(x_CHW) for x_CHW in x_NCHW])


def as_floats(change: Change, x_NCHW: Tensor) -> Tensor:
    """Change images as floats in 0…1, and return bytes."""
    return (255 * change(x_NCHW.float() / 255)).round().to(torch.uint8)


def main() -> None:
    """Measure and write results/augment.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=32)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    shape = (given.images, given.side, given.side, 3)
    x_NHWC = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "images"))
    x_NCHW = x_NHWC.permute(0, 3, 1, 2).contiguous()
    theirs, kornias, draws = of_torchvision(), of_kornia(), generator(0, "bench")
    rows = []
    for name, function in {**augment.TABLE, **augment.MIXES}.items():
        usual = {**STRENGTHS, **POLICIES}[name].usual
        row = {"name": name, "saccade": rate(partial(function, strength=usual, generator=draws), x_NHWC)}
        if name in theirs:
            # torchvision's noise takes floats alone, as all of kornia's do.
            change = partial(as_floats, theirs[name]) if name == "noise" else theirs[name]
            row["torchvision"] = rate(partial(each_by_itself, change), x_NCHW)
        if name in kornias:
            row["kornia"] = rate(partial(as_floats, kornias[name]), x_NCHW)
        rows.append(row)
        print(
            f"{name:<16}" + "".join(f"{key} {row.get(key, 0):>9,}   " for key in ("saccade", "torchvision", "kornia"))
        )
    together = {name: STRENGTHS[name].usual for name in augment.MIXED}
    at_once = rate(lambda x: augment.apply(x, together, draws), x_NHWC)
    print(f"all {len(together)} of the mixes' at once: {at_once:,}")
    settings = {"images": given.images, "side": given.side, "threads": torch.get_num_threads()}
    write("augment", {**settings, "images_per_second": rows, "all_at_once": at_once})


if __name__ == "__main__":
    main()
