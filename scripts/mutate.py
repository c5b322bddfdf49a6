"""Decode thousands of damaged image files of every format, and audit a folder of them: no crash, no hang, a reason.

    python scripts/mutate.py --files 5000 --seed 0
    python scripts/mutate.py --folder corpus

Files of each format and kind that Pillow writes are cut short, or have some bytes changed, at places drawn by the
seed. A child process decodes them, so that one that crashes or hangs is counted and named. What is decoded must equal
what Pillow reads (turned upright, as RGB) wherever that needs no rule of saccade's own (such as that very large
images are kept reduced, which a damaged header may say that one is). Ends with exit status 1 where
a file crashed, took more than 10 s, was decoded otherwise than by Pillow, or was refused while Pillow reads it.
`--folder` takes the files below a folder instead, such as a public corpus of broken images.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, features

from saccade.data.decode import decode
from saccade.data.scale import reduction
from saccade.errors import DecodeError

HANG = 10.0
PLAIN = ("RGB", "L", "1", "YCbCr")


def originals() -> Iterator[tuple[str, bytes]]:
    """Yield `(name, bytes)` of a whole file of every format and kind."""
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 48)[:, None, None] * np.ones((1, 40, 1))
    rgb = Image.fromarray(np.clip(smooth + rng.normal(0, 20, (48, 40, 3)), 0, 255).astype(np.uint8))
    grey, alpha = rgb.convert("L"), rgb.convert("RGBA")
    alpha.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, Image.Image, str, dict[str, Any]]] = [
        ("plain.jpg", rgb, "JPEG", {}),
        ("progressive.jpg", rgb, "JPEG", {"progressive": True}),
        ("exif.jpg", rgb, "JPEG", {"exif": exif}),
        ("grey.jpg", grey, "JPEG", {}),
        ("cmyk.jpg", rgb.convert("CMYK"), "JPEG", {}),
        ("rgb.png", rgb, "PNG", {}),
        ("alpha.png", alpha, "PNG", {}),
        ("palette.png", rgb.convert("P"), "PNG", {}),
        ("deep.png", deep, "PNG", {}),
        ("exif.png", rgb, "PNG", {"exif": exif}),
        ("lossy.webp", rgb, "WEBP", {}),
        ("lossless.webp", alpha, "WEBP", {"lossless": True}),
        ("one.gif", rgb, "GIF", {}),
        ("frames.gif", rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}),
        ("rgb.bmp", rgb, "BMP", {}),
        ("raw.tif", rgb, "TIFF", {}),
        ("lzw.tif", rgb, "TIFF", {"compression": "tiff_lzw"}),
        ("jpeg.tif", rgb, "TIFF", {"compression": "jpeg"}),
        ("deep.tif", deep, "TIFF", {}),
        ("float.tif", real, "TIFF", {}),
        ("rgb.jp2", rgb, "JPEG2000", {}),
        ("rgb.ppm", rgb, "PPM", {}),
        ("rgb.ico", rgb, "ICO", {}),
        ("rgb.tga", rgb, "TGA", {}),
        ("rgb.qoi", rgb, "QOI", {}),
    ]
    if features.check("avif"):
        kinds.append(("rgb.avif", rgb, "AVIF", {}))
    for name, image, format, options in kinds:
        buffer = BytesIO()
        image.save(buffer, format, **options)
        yield name, buffer.getvalue()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file cut short (one in four), or with 1 to 24 bytes changed, half of them near its beginning."""
    if rng.random() < 0.25:
        return data[: rng.integers(0, len(data))]
    changed = bytearray(data)
    reach = len(data) if rng.random() < 0.5 else min(len(data), 128)
    for place in rng.integers(0, reach, rng.integers(1, 25)):
        changed[place] = rng.integers(0, 256)
    return bytes(changed)


def write(folder: Path, files: int, seed: int) -> list[Path]:
    """Write so many damaged files into two class folders."""
    whole, rng = list(originals()), np.random.default_rng(seed)
    paths = []
    for label in "ab":
        (folder / label).mkdir(parents=True)
    for number in range(files):
        name, data = whole[number % len(whole)]
        path = folder / "ab"[number // len(whole) % 2] / f"{number:05d}-{name}"
        path.write_bytes(mutated(data, rng))
        paths.append(path)
    return paths


def by_pillow(data: bytes) -> "np.ndarray[Any, Any] | str | None":
    """Return the pixels as Pillow alone reads them; None where that takes a rule of saccade's own; or its complaint."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data)) as image:
                if reduction(*image.size) > 1:
                    return None
                image.load()
                if image.mode not in PLAIN or image.has_transparency_data or ";16" in str(image.tile):
                    return None
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # noqa: BLE001 (on broken bytes Pillow raises whatever comes)
        return f"{type(error).__name__}: {error}"


def child(paths: list[str]) -> None:
    """Decode each file and print what came of it, one line of JSON a file."""
    for path in paths:
        data = Path(path).read_bytes()
        print(json.dumps({"path": path}), flush=True)
        begun = time.process_time()  # its own: others may keep the machine busy
        try:
            x_HWC, reason = decode(data).x_HWC, None
        except DecodeError as error:
            x_HWC, reason = None, str(error)
        seconds = time.process_time() - begun
        other = by_pillow(data)
        if x_HWC is None:
            verdict = "refused" if isinstance(other, str) or other is None else "refused, read by Pillow"
        elif other is None:
            verdict = "decoded"
        elif isinstance(other, str):
            verdict = "decoded, refused by Pillow"
        else:
            verdict = "decoded as by Pillow" if np.array_equal(x_HWC, other) else "decoded otherwise"
        print(json.dumps({"done": path, "verdict": verdict, "reason": reason, "seconds": seconds}), flush=True)


def decoded(paths: list[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Decode all files in children; return what came of each, and the names of those that crashed or hung."""
    left, results, lost = [str(path) for path in paths], [], []
    while left:
        batch, left = left[:500], left[500:]
        command = [sys.executable, __file__, "--child"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                out, _ = process.communicate("\n".join(batch), timeout=HANG * 20)
            except subprocess.TimeoutExpired:
                process.kill()
                out, _ = process.communicate()
        lines = [json.loads(line) for line in out.splitlines()]
        results += [line for line in lines if "done" in line]
        if process.returncode:
            last = lines[-1].get("path", "")
            lost.append(last)
            left = batch[batch.index(last) + 1 :] + left
    return results, lost


def main() -> None:
    """Write or find the files, decode and audit them, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(sys.stdin.read().splitlines())
        return
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place) / "files"
        if options.folder:
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
        else:
            paths = write(folder, options.files, options.seed)
        results, lost = decoded(paths)
        slow = [each["done"] for each in results if each["seconds"] > HANG]
        verdicts = Counter(each["verdict"] for each in results)
        print(json.dumps({"files": len(paths), "verdicts": verdicts, "crashed or hung": lost, "slow": slow,
                          "longest": max(each["seconds"] for each in results)}, indent=1))  # fmt: skip
        for each in results:
            if each["verdict"] in ("refused, read by Pillow", "decoded otherwise"):
                print(Path(each["done"]).relative_to(folder), each["verdict"], each["reason"])
        begun = time.perf_counter()
        command = [sys.executable, "-m", "saccade", "audit", str(folder), "--no-cache", "--json"]
        done = subprocess.run([*command, "--page", f"{place}/page.html"], capture_output=True, text=True, check=False)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"audit: exit {done.returncode}, {time.perf_counter() - begun:.1f} s, peak {peak:.0f} MiB")
        if done.returncode:
            print(done.stderr[-2000:])
            raise SystemExit(1)
        value = json.loads(done.stdout)
        unreadable = sum(len(each["paths"]) for each in value["findings"] if each["kind"] == "unreadable")
        readable = sum(value["classes"].values())
        print(f"audit: {value['images']} images, {unreadable} unreadable, {readable} readable")
    bad = {"refused, read by Pillow", "decoded otherwise"} & verdicts.keys()
    expected = value["images"] if options.folder else len(paths)
    if lost or slow or bad or unreadable + readable != expected:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
