"""Run folders as `fit` and `train` leave them, with plausible numbers and pictures, for the report's tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.run import Run

Summary = dict[str, Any]

PHOTO_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOSTILE_CLASSES = (
    "<script>alert(1)</script>",
    '=cmd|"/c calc"!A1',
    "🦊 fox & 狐 'quoted'",
    "two\nlines\tand a tab",
    "x" * 255,
    "</style><img src=x onerror=alert(1)>",
    "$\\frac{1}{2}$ {{ 7*7 }}",
    "\u202egnp.evil\u0007\udcff",
)


def digits(folder: Path) -> Run:
    """Return a run like `fit digits`: nearly everything right."""
    counts_KK = confusion(10, images=27, accuracy=0.985, seed=1)
    return make(folder, source="digits", classes=[str(d) for d in range(10)], counts_KK=counts_KK, side=8)


def photos(folder: Path) -> Run:
    """Return a run like five minutes on ten classes of small photos."""
    counts_KK = confusion(10, images=1000, accuracy=0.862, seed=2, close=((3, 5), (1, 9), (0, 8), (2, 4)))
    return make(folder, source="photos/cifar10-jpeg.zip", classes=list(PHOTO_CLASSES), counts_KK=counts_KK, looks=3)


def two_classes(folder: Path) -> Run:
    """Return a small, hard problem of an inspector: ok or scratched, 53 test images, no network stage yet."""
    counts_KK = np.array([[38, 3], [5, 7]])
    return make(folder, source="castings", classes=["ok", "scratched"], counts_KK=counts_KK, side=64)


def hundred_classes(folder: Path) -> Run:
    """Return a run with 100 classes, some of them without test images."""
    counts_KK = confusion(100, images=30, accuracy=0.61, seed=4, close=tuple((k, k + 1) for k in range(0, 98, 7)))
    counts_KK[[17, 63]] = 0
    classes = [f"{word} {n:02d}" for n in range(10) for word in WORDS]
    return make(folder, source="herbarium", classes=classes, counts_KK=counts_KK, side=96)


def baseline_won(folder: Path) -> Run:
    """Return a run in which a nearest-neighbour classifier beat the time there was, and no network was trained."""
    counts_KK = confusion(3, images=40, accuracy=0.93, seed=5)

    def change(summary: Summary) -> None:
        summary.update(chosen="3 nearest neighbours (L1)", network=None, checks=[], reading=[], inputs=None)
        summary["baselines"][0]["name"] = summary["chosen"]
        summary["baselines"][0]["validation_accuracy"] = summary["validation"]["accuracy"]
        summary["baselines"][0]["interval"] = summary["validation"]["interval"]

    run = make(folder, source="shapes.npz", classes=["circle", "square", "star"], counts_KK=counts_KK, change=change)
    (run.path / "history.jsonl").unlink()
    return run


def checks_failed(folder: Path) -> Run:
    """Return a run whose checks found trouble, whose data had every kind of flaw, and that learned nothing."""
    counts_KK = np.array([[20, 6, 2], [14, 10, 4], [12, 9, 0]])

    def change(summary: Summary) -> None:
        summary["checks"][1] = {
            "name": "overfit a handful", "passed": False, "expected": "all of 32 training images learned in 60 steps",
            "measured": "11 of 32 right", "advice": "Look at the labels of these images, or raise the learning rate.",
        }  # fmt: skip
        summary.update(unreadable=2, duplicates=9, warnings=["The loss stopped falling after 1.2 passes."])

    run = make(folder, source="scans", classes=["a", "b", "c"], counts_KK=counts_KK, side=32, change=change)
    run.write("findings", EVERY_FINDING)
    return run


def sealed(folder: Path) -> Run:
    """Return a run of `train`: validation figures only, no baselines, no budget."""

    def change(summary: Summary) -> None:
        test = summary["test"]
        summary["validation"].update({name: test[name] for name in ("confusion", "per_class", "calibration")})
        summary.update(command="train", test=None, baselines=[], budget_seconds=None)

    return make(folder, source="digits", classes=[str(d) for d in range(10)],
                counts_KK=confusion(10, images=27, accuracy=0.97, seed=6), side=8, change=change)  # fmt: skip


def hostile(folder: Path) -> Run:
    """Return a run whose classes, files and texts try to break out of the page."""
    evil = "photos/<img src=https://evil.example/x.png onerror=alert(1)>.jpg"

    def change(summary: Summary) -> None:
        for mistake in summary["test"]["mistakes"]:
            mistake["path"] = evil
        summary["test"]["mistakes"][0]["picture"] = "../../outside.png"
        summary["test"]["mistakes"][1]["picture"] = "pictures/broken.jpg"
        summary["warnings"] = ["<b>bold</b> & {{ 7*7 }}"]
        summary["reading"] = ["<script>reading()</script>"]
        summary["network"]["settings"]["<i>key</i>"] = "javascript:alert(1)"

    run = make(folder, source="http://evil.example/<b>", classes=list(HOSTILE_CLASSES),
               counts_KK=confusion(8, images=25, accuracy=0.8, seed=7), change=change)  # fmt: skip
    run.write("findings", [{"kind": "unreadable", "severity": "warning", "paths": [evil], "detail": "<b>truncated"}])
    run.write("plan", {"decisions": [{"at": 1.0, "what": "<u>size", "value": "<u>32", "why": "<u>why"}]})
    (run.pictures / "broken.jpg").write_bytes(b"not a picture")
    Image.new("RGB", (4, 4)).save(folder.parent / "outside.png")
    return run


ALL: dict[str, Callable[[Path], Run]] = {
    maker.__name__: maker
    for maker in (digits, photos, two_classes, hundred_classes, baseline_won, checks_failed, sealed, hostile)
}


def make(
    folder: Path,
    *,
    source: str,
    classes: list[str],
    counts_KK: NDArray[np.int64],
    side: int = 32,
    looks: int = 1,
    change: Callable[[Summary], None] = lambda summary: None,
) -> Run:
    """Write a whole run into `folder`; `change` has the last word on the summary."""
    run = Run(folder)
    run.pictures.mkdir(parents=True)
    random = np.random.default_rng(len(classes))
    summary = summary_of(source, classes, counts_KK, looks=looks, size=side)
    for place, mistake in enumerate(summary["test"]["mistakes"]):
        name = f"pictures/mistake-{place + 1:02d}.{'png' if side < 32 else 'jpg'}"
        Image.fromarray(picture(random, side)).save(folder / name)
        mistake["picture"] = name
    sheet = np.vstack([np.hstack([picture(random, side) for _ in range(10)]) for _ in range(3)])
    Image.fromarray(sheet).save(folder / "pictures/inputs.png")
    change(summary)
    run.path.joinpath("summary.json").write_text(json.dumps(summary), encoding="utf-8")
    run.write("plan", PLAN)
    run.write("findings", SOME_FINDINGS)
    run.add_history(*history(random, best=summary["validation"]["accuracy"], classes=len(classes)))
    run.settings.write_text("seed: 0\nbudget: 300.0\npretrained: none\n", encoding="utf-8")
    return run


def summary_of(source: str, classes: list[str], counts_KK: NDArray[np.int64], *, looks: int, size: int) -> Summary:
    """Return summary.json's object for a confusion matrix on the test part."""
    budget, totals_K, images = 300.0, counts_KK.sum(axis=1), int(counts_KK.sum())
    accuracy = float(np.trace(counts_KK) / images)
    validation = min(accuracy + 0.006, 1.0)
    majority = float(totals_K.max() / images)
    weak = majority + 0.3 * (validation - majority)
    counts = {"train": (totals_K * 5).tolist(), "validation": totals_K.tolist(), "test": totals_K.tolist()}
    stages = (
        ("integrity", 0.04, None), ("split", 0.001, None), ("baselines", 0.08, weak + 0.04),
        ("checks", 0.03, None), ("train", 0.8, validation), ("evaluate", 0.02, None),
    )  # fmt: skip
    return {
        "schema": 1, "command": "fit", "saccade": "0.1.0", "source": source, "images": 7 * images, "classes": classes,
        "class_counts": counts, "unreadable": 1, "duplicates": 2,
        "split": {"train": 5 * images, "validation": images, "test": images},
        "stages": [{"name": name, "seconds": s * budget, "validation_accuracy": v} for name, s, v in stages],
        "baselines": [
            baseline("5 nearest neighbours (L1)", weak, images, "on 5,000 of the training images"),
            baseline("linear softmax on pixels", weak + 0.04, images, ""),
        ],
        "checks": checks(len(classes)),
        "network": {"name": "convnet", "parameters": 1_972_800, "size": size, "steps": 480, "epochs": 8.0,
                    "images_per_second": 1184.2,
                    "settings": {"optimizer": "muon", "learning_rate": 0.24, "flip": True}},
        "chosen": "convnet",
        "validation": {"accuracy": validation, "interval": wilson(validation, images), "macro_f1": validation,
                       "majority": majority},
        "test": {**result(counts_KK, classes), "looks": looks, "looked": [
            {"when": f"2026-05-0{n + 1}T10:00:00+00:00", "run": f"runs/{n}", "command": "fit"} for n in range(looks)]},
        "inputs": "pictures/inputs.png", "seconds": 0.974 * budget, "budget_seconds": budget, "run": "runs/it",
        "warnings": [], "machine": {"system": "Linux x86_64", "python": "3.11.9", "cores": 2, "torch": "2.14.0"},
        "reading": ["The loss fell to the end: a longer budget would probably help.",
                    "Training and validation stay close together: no sign of overfitting."],
    }  # fmt: skip


def result(counts_KK: NDArray[np.int64], classes: list[str]) -> Summary:
    """Return the test part's figures, with confidences that are a little too high."""
    images, right_K, totals_K = int(counts_KK.sum()), np.diag(counts_KK), counts_KK.sum(axis=1)
    accuracy = float(right_K.sum() / images)
    recall_K = right_K / np.maximum(totals_K, 1)
    precision_K = right_K / np.maximum(counts_KK.sum(axis=0), 1)
    f1_K = 2 * recall_K * precision_K / np.maximum(recall_K + precision_K, 1e-9)
    edges = np.arange(16) / 15
    filled = [int(n) for n in images * np.linspace(0, 1, 15) ** 3 / (np.linspace(0, 1, 15) ** 3).sum()]
    middles = (edges[:-1] + edges[1:]) / 2
    wrong = np.argwhere((counts_KK > 0) & ~np.eye(len(classes), dtype=bool))
    return {
        "accuracy": accuracy, "interval": wilson(accuracy, images), "macro_f1": float(f1_K.mean()),
        "calibration_error": 0.038, "log_loss": 0.44, "images": images,
        "per_class": [{"class": name, "images": int(total), "precision": float(p), "recall": float(r), "f1": float(f)}
                      for name, total, p, r, f in zip(classes, totals_K, precision_K, recall_K, f1_K, strict=True)],
        "confusion": counts_KK.tolist(),
        "calibration": [{"low": float(a), "high": float(b), "images": n, "confidence": float(c) if n else None,
                         "accuracy": float(c**1.2) if n else None}
                        for a, b, c, n in zip(edges[:-1], edges[1:], middles, filled, strict=True)],
        "mistakes": [{"path": f"{classes[row]}/{1000 + place}.jpg", "label": classes[row], "predicted": classes[column],
                      "probability": 0.995 - 0.01 * place} for place, (row, column) in enumerate(wrong[:24])],
    }  # fmt: skip


def confusion(classes: int, *, images: int, accuracy: float, seed: int,
              close: tuple[tuple[int, int], ...] = ()) -> NDArray[np.int64]:  # fmt: skip
    """Return a random confusion matrix, in which the `close` pairs of classes are confused most."""
    random = np.random.default_rng(seed)
    shares_KK = random.gamma(0.3, size=(classes, classes))
    for a, b in close:
        shares_KK[a, b] += 4
        shares_KK[b, a] += 4
    np.fill_diagonal(shares_KK, 0)
    shares_KK *= (1 - accuracy) / shares_KK.sum(axis=1, keepdims=True)
    np.fill_diagonal(shares_KK, accuracy)
    return np.array([random.multinomial(images, row) for row in shares_KK])


def history(
    random: np.random.Generator, *, best: float, classes: int, epochs: int = 8, steps: int = 60
) -> list[Summary]:
    """Return the lines of history.jsonl: a loss at every step, validation at the end of every epoch."""
    lines: list[Summary] = []
    for step in range(1, epochs * steps + 1):
        done = step / (epochs * steps)
        loss = 0.5 + (np.log(classes) - 0.5) * np.exp(-6 * done) + random.normal(0, 0.08 * (1 - 0.6 * done))
        rate = 0.24 * min(done / 0.1, (1 - done) / 0.9)
        line = {
            "step": step,
            "epoch": step / steps,
            "seconds": step / 4,
            "loss": abs(float(loss)),
            "learning_rate": rate,
        }
        if step % steps == 0:
            line["validation_accuracy"] = best * (1 - 0.6 * float(np.exp(-5 * done)))
            line["validation_loss"] = 0.6 + 1.2 * float(np.exp(-5 * done))
        lines.append(line)
    return lines


def picture(random: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return a few blobs of colour over a gradient, which pass for a photo at the size of a stamp."""
    rows, columns = np.mgrid[0:side, 0:side] / max(side - 1, 1)
    image = np.stack([rows * random.uniform(60, 160) + random.uniform(20, 90) for _ in range(3)], axis=-1)
    for _ in range(3):
        y, x, reach = random.uniform(0.2, 0.8), random.uniform(0.2, 0.8), random.uniform(0.01, 0.05)
        blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / reach)[..., None]
        image = image * (1 - blob) + blob * random.uniform(0, 255, 3)
    return image.clip(0, 255).astype(np.uint8)


def baseline(name: str, accuracy: float, images: int, note: str) -> Summary:
    """Return one entry of `baselines`."""
    reached = {"validation_accuracy": accuracy, "interval": wilson(accuracy, images)}
    return {"name": name, **reached, "seconds": 3.2, "note": note}


def wilson(share: float, n: int) -> list[float]:
    """Return Wilson's 95 % interval of a share of `n`."""
    z = 1.959964
    middle, room = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return [max((middle - room) / (1 + z * z / n), 0.0), min((middle + room) / (1 + z * z / n), 1.0)]


def checks(classes: int) -> list[Summary]:
    """Return the verdict page of a network in order."""
    loss = float(np.log(classes))
    rows = (
        ("initial loss", f"ln {classes} = {loss:.3f}", f"{loss + 0.01:.3f}"),
        ("overfit a handful", "all of 32 training images learned in 60 steps", "32 of 32 after 21 steps"),
        ("gradients", "relative difference below 1e-5", "3.1e-8"),
    )
    return [{"name": n, "passed": True, "expected": e, "measured": m, "advice": ""} for n, e, m in rows]


WORDS = ("oak", "elm", "common hazel", "ash", "beech", "maple", "lime", "alder", "birch", "willow")

PLAN = {"budget_seconds": 300.0, "decisions": [
    {"at": 18.2, "what": "size", "value": 32, "why": "the median image is 32 × 32"},
    {"at": 31.0, "what": "epochs", "value": 8.0, "why": "1,184 images/s measured; 232 s left for training"},
]}  # fmt: skip

SOME_FINDINGS = [
    {"kind": kind, "severity": severity, "paths": paths, "detail": detail}
    for kind, severity, paths, detail in (
        ("unreadable", "warning", ["cat/0017.jpg"], "truncated after 1,024 bytes; left out"),
        ("duplicate", "note", ["cat/3.jpg", "cat/3 (copy).jpg"], "the same picture; kept on one side of the split"),
        ("ignored", "note", [".DS_Store"], "not an image"),
    )
]

EVERY_FINDING = [
    {"kind": kind, "severity": severity, "paths": [f"a/{kind}-{n}-{k}.jpg" for k in range(copies)], "detail": detail}
    for kind, severity, count, copies, detail in (
        ("ignored", "note", 3, 1, "not an image"),
        ("unreadable", "warning", 2, 1, "empty file; left out"),
        ("duplicate", "note", 9, 2, "the same picture; kept on one side of the split"),
        ("leak", "warning", 1, 12, "copies in train and test; left out of train"),
        ("label-conflict", "error", 1, 2, "the same picture in a and in b; both left out"),
        ("empty-class", "warning", 1, 0, "class d has no readable image; left out"),
        ("converted", "note", 1, 320, "CMYK; converted to RGB"),
    )
    for n in range(count)
] + [
    {"kind": "plateau", "severity": "warning", "paths": [], "detail": "The loss did not fall between steps 90 and 480."}
]
