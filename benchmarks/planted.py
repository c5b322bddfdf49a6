"""Plant faults in photos and count which of them `saccade audit` finds: recall and precision of each kind.

    python benchmarks/planted.py ../shared/data/cifar10-jpeg.zip --images 2000

prints a table, and writes it with the machine to benchmarks/results/planted.json. Planted are exact copies (other
bytes, same pixels), re-encoded, resized, mirrored and cropped copies, wrong labels, and ten kinds of unreadable files.
Then the default split is looked through for pairs of an image and its copy on two sides.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _common import answer, timed, write
from PIL import Image

from saccade import audit, data
from saccade.settings import DataSettings

Picture = Image.Image
CHANGES: Mapping[str, Callable[[Picture], tuple[Picture, str, dict[str, Any]]]] = {
    "copy": lambda image: (image, "png", {}),
    "re-encoded": lambda image: (image, "jpg", {"quality": 60}),
    "resized": lambda image: (image.resize((48, 48), Image.Resampling.BICUBIC), "jpg", {"quality": 90}),
    "mirrored": lambda image: (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "png", {}),
    "cropped": lambda image: (image.crop((1, 2, 30, 31)), "png", {}),
}


def broken(whole: bytes) -> dict[str, bytes]:
    """Return ten files that cannot be read, by name."""
    buffer = BytesIO()
    Image.open(BytesIO(whole)).save(buffer, "PNG")
    png = buffer.getvalue()
    return {
        "empty.jpg": b"", "half.jpg": whole[: len(whole) // 2], "half.png": png[: len(png) // 2],
        "text.jpg": b"these are notes", "html.jpg": b"<html><body>404</body></html>", "zeros.png": bytes(4096),
        "header.png": png[:20], "noise.jpg": np.random.default_rng(0).bytes(4096),
        "bomb.png": png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:],
        "heic.heic": b"\0\0\0\x18ftypheic" + bytes(64),
    }  # fmt: skip


def plant(source: Path, folder: Path, images: int, each: int) -> dict[str, Any]:
    """Write class folders with planted faults; return pairs (original, copy) by kind, and other names by kind."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(source) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("train/") and name.endswith(".jpg"))
        chosen = [names[i] for i in np.sort(rng.permutation(len(names))[:images])]
        content = {"/".join(name.split("/")[1:]): archive.read(name) for name in chosen}
    keys, classes = list(content), sorted({name.split("/")[0] for name in content})
    order = [keys[i] for i in rng.permutation(len(keys))]
    planted: dict[str, Any] = {kind: [] for kind in CHANGES} | {"label": []}
    for kind, change in CHANGES.items():
        for original in [order.pop() for _ in range(each)]:
            picture, suffix, options = change(Image.open(BytesIO(content[original])))
            buffer = BytesIO()
            picture.save(buffer, "JPEG" if suffix == "jpg" else "PNG", **options)
            copy = f"{original.removesuffix('.jpg')} {kind}.{suffix}"
            content[copy] = buffer.getvalue()
            planted[kind].append((original, copy))
    for original in [order.pop() for _ in range(each)]:
        own, _, file = original.partition("/")
        moved = f"{rng.choice([name for name in classes if name != own])}/moved {own} {file}"
        content[moved] = content.pop(original)
        planted["label"].append(moved)
    bad = {f"{classes[0]}/{name}": value for name, value in broken(content[order[0]]).items()}
    planted["unreadable"] = list(bad)
    for name, value in {**content, **bad}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)
    return planted


def grouped(images: data.ImageSet) -> dict[str, int]:
    """Return the group of each image, exact and near duplicates together."""
    alike = audit.near_duplicates(images, audit.duplicates(images))
    return dict(zip(images.keys, alike.groups_N.tolist(), strict=True))


def row(kind: str, planted: int, found: int, flagged: int, right: int) -> dict[str, Any]:
    """Return recall and precision as a row of the table."""
    precision = round(right / flagged, 3) if flagged else None
    return {"kind": kind, "planted": planted, "found": found, "recall": round(found / planted, 3),
            "flagged": flagged, "precision": precision}  # fmt: skip


def main() -> None:
    """Plant, audit, split, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--pretrained", default="auto")
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        planted = plant(options.source, folder, options.images, options.each)
        command = ["-m", "saccade", "audit", str(folder), "--no-cache", "--json", "--page", f"{place}/page.html"]
        done, seconds = timed([*command, "--pretrained", options.pretrained])
        value = answer(done)
        images = data.integrity(data.open(folder))
        group = grouped(images)
        group_N = np.array([group[key] for key in images.keys])
        split = data.split(images, group_N, DataSettings(), group_N)
        part = {line[0]: line[3] for line in split.rows()}
    paths: dict[str, set[str]] = {}
    for finding in value["findings"]:
        paths.setdefault(finding["kind"], set()).update(finding["paths"])
    rows = []
    pairs = {kind: planted[kind] for kind in CHANGES}
    involved = {name for kind in CHANGES for pair in planted[kind] for name in pair}
    for kind, known in pairs.items():
        rows.append(row(kind, len(known), sum(group[a] == group[b] for a, b in known), 0, 0))
    flagged = paths.get("near-duplicate", set()) | paths.get("duplicate", set())
    rows.append(row("all copies", len(involved), len(involved & flagged), len(flagged), len(involved & flagged)))
    for kind in ("unreadable", "label"):
        found, known_names = paths.get(kind, set()), set(planted[kind])
        rows.append(row(kind, len(known_names), len(found & known_names), len(found), len(found & known_names)))
    crossing = {kind: sum(part[a] != part[b] for a, b in known) for kind, known in pairs.items()}
    for line in rows:
        print(f"{line['kind']:<12} planted {line['planted']:>4}  recall {line['recall']:.3f}  "
              f"flagged {line['flagged']:>4}  precision {line['precision']}")  # fmt: skip
    print(f"on two sides of the default split: {json.dumps(crossing)}; audit took {seconds:.1f} s")
    write("planted", {"rows": rows, "on two sides": crossing, "seconds": round(seconds, 1),
                      "command": sys.argv[1:]})  # fmt: skip


if __name__ == "__main__":
    main()
