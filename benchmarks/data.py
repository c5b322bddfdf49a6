"""Images a second for audit and load, beside torchvision's ImageFolder + v2 and a plain Pillow loop in the same run.

    python benchmarks/data.py ../shared/data/clothing-small.zip --side 224
    python benchmarks/data.py ../shared/data/cifar10-jpeg.zip --side 32
    python benchmarks/data.py --tiny 100000

unpacks the archive into a temporary folder and prints one line a reader. All give float tensors of 64 images, squares
of `--side` pixels: whole images, or random resized crops, half of them mirrored; torchvision with two workers, saccade
with two threads, which decode every file each time, or only in the first epoch. Readers take turns, `--rounds` times;
the best time of each counts. Then the check of every file (decoded, hashed, sketched), the whole `saccade audit`, and
that again over an unchanged folder. `--tiny` makes so many files of 8 by 8 pixels in nested folders instead, and tells
the audit's time and peak memory. Writes what it found, with the machine, to benchmarks/results/data-<source>.json;
`--only-audit` leaves the readers there as they were.
"""

import argparse
import os
import resource
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from _common import RESULTS, answer, timed, write
from PIL import Image

from saccade import data
from saccade.data.batches import Order, StoredImages
from saccade.files import read_json
from saccade.settings import DataSettings

WORKERS = 2
ROUNDS = 2
BATCH = 64


def pillow(folder: Path, side: int) -> int:
    """Read, decode and resize every file in one thread."""
    paths = sorted(folder.rglob("*.jpg"))
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
    return len(paths)


def torchvision(folder: Path, side: int, *, crops: bool) -> int:
    """Read every file through ImageFolder, v2 and a DataLoader with two workers."""
    from torch.utils.data import ConcatDataset, DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    resize = v2.RandomResizedCrop(side, antialias=True) if crops else v2.Resize((side, side), antialias=True)
    flip = [v2.RandomHorizontalFlip()] if crops else []
    change = v2.Compose([v2.PILToTensor(), resize, *flip, v2.ToDtype(torch.float32, scale=True)])
    sets = [ImageFolder(str(part), change) for part in sorted(folder.iterdir()) if part.is_dir()]
    loader: Any = DataLoader(ConcatDataset(sets), batch_size=BATCH, num_workers=WORKERS, shuffle=True)
    return sum(len(y_N) for _, y_N in loader)


def ours(images: data.ImageSet, side: int, *, crops: bool) -> int:
    """Read every image once through saccade's own batches, with two threads."""
    part = data.Part("train", images)
    stored = StoredImages(part, side, WORKERS, crops=data.Crops(mirrored=0.5) if crops else None)
    order = Order(len(part), BATCH, seed=0)
    torch.set_num_threads(1)  # as in the workers of a DataLoader; more would spin beside those that decode
    room_NCHW = torch.empty((BATCH, 3, side, side), memory_format=torch.channels_last)
    batches = len(part) // BATCH
    for batch in stored.batches(order, end=batches):
        room_NCHW.copy_(batch.x_NHWC.permute(0, 3, 1, 2)).mul_(1 / 255)
    return batches * BATCH


def opened(folder: Path, memory: float = 0) -> data.ImageSet:
    """Return a folder's images, of which so many GiB are kept decoded."""
    return data.open(folder, DataSettings(workers=WORKERS, memory=memory))


def checked(folder: Path) -> int:
    """Decode, hash and sketch every file, as the audit begins."""
    images = opened(folder)
    images.pixels.check(images.keys)
    return len(images)


def audited(folder: Path, *options: str) -> dict[str, Any]:
    """Run a whole `saccade audit`; return images, seconds, its processor's seconds and its peak memory in MiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["-m", "saccade", "audit", str(folder), "--json", "--workers", str(WORKERS), *options]
    done, seconds = timed(command)
    value = answer(done)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = round(after.ru_maxrss / 1024)
    return {"images": value["images"], "seconds": round(seconds, 2), "busy_seconds": round(busy, 2), "peak_mib": peak}


def measured(name: str, work: Callable[[], int]) -> dict[str, Any]:
    """Time a reader and print its line."""
    begun = perf_counter()
    images = work()
    seconds = perf_counter() - begun
    print(f"{name:<44} {images:>7,} images  {seconds:>7.2f} s  {images / seconds:>7,.0f} images/s", flush=True)
    return {"name": name, "images": images, "seconds": round(seconds, 3), "rate": round(images / seconds, 1)}


def best_of(rounds: int, readers: Mapping[str, Callable[[], int]]) -> list[dict[str, Any]]:
    """Let all readers take turns so many times; return the fastest time of each."""
    runs = [[measured(name, work) for name, work in readers.items()] for _ in range(rounds)]
    return [max(times, key=lambda row: row["rate"]) for times in zip(*runs, strict=True)]


def readers(folder: Path, side: int) -> dict[str, Callable[[], int]]:
    """Return every reader by name; those of kept images come in the order of their epochs."""
    kept: list[data.ImageSet] = []

    def first() -> int:
        kept[:] = [opened(folder, memory=8)]
        return ours(kept[0], side, crops=True)

    return {
        "Pillow, one thread, whole images": lambda: pillow(folder, side),
        "torchvision, whole images": lambda: torchvision(folder, side, crops=False),
        "saccade, whole images": lambda: ours(opened(folder), side, crops=False),
        "torchvision, random resized crops": lambda: torchvision(folder, side, crops=True),
        "saccade, random resized crops": lambda: ours(opened(folder), side, crops=True),
        "saccade, crops, kept decoded: first epoch": first,
        "saccade, crops, kept decoded: later epoch": lambda: ours(kept[0], side, crops=True),
        "saccade, check: decode, hash, sketch": lambda: checked(folder),
    }


def tiny(folder: Path, files: int) -> None:
    """Write so many files of 8 by 8 pixels, 100 a folder, three folders deep, in ten classes."""
    rng = np.random.default_rng(0)
    for start in range(0, files, 100):
        place = folder / f"class{start // 100 % 10}" / f"{start // 10_000:03d}" / f"{start // 100:05d}"
        place.mkdir(parents=True)
        for number in range(100):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(place / f"{number:03d}.bmp")


def main() -> None:
    """Unpack, run every reader, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--tiny", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only-audit", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place) / "images"
        os.environ["SACCADE_CACHE"] = f"{place}/cache"
        rows: Any = []
        if options.tiny:
            name = f"tiny-{options.tiny}"
            tiny(folder, options.tiny)
        else:
            name = options.source.stem
            with zipfile.ZipFile(options.source) as archive:
                archive.extractall(folder)
            result = RESULTS / f"data-{name}.json"
            kept = options.only_audit
            rows = read_json(result)["readers"] if kept else best_of(options.rounds, readers(folder, options.side))
        page = ("--page", f"{place}/page.html", "--pretrained", "none")
        audits = [{"name": kind, **audited(folder, *page)} for kind in ("audit", "audit again")]
        for each in audits:
            print(f"{each['name']:<44} {each['images']:>7,} images  {each['seconds']:>7.2f} s  "
                  f"(busy {each['busy_seconds']:.2f} s)  peak {each['peak_mib']:,} MiB", flush=True)  # fmt: skip
        write(f"data-{name}", {"command": sys.argv[1:], "readers": rows, "audits": audits})


if __name__ == "__main__":
    main()
