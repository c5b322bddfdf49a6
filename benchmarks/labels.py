"""Plant wrong labels and count which of them are doubted: recall, precision, and average precision of the order.

    python benchmarks/labels.py ../shared/data/cifar10-jpeg.zip --images 2000 --rate 0.05 --seeds 1 2 3
    python benchmarks/labels.py ../shared/data/clothing-small.zip --pretrained squeezenet1_0=FILE --peer venv/bin/python

prints a line a seed, and writes them with the machine to benchmarks/results/labels-<source>.json. Each seed draws the
images, which of them get another label, and which. With `--peer`, a Python that has cleanlab, so does its
`find_label_issues` on the same probabilities, and its order by self-confidence.
"""

import argparse
import json
import math
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from _common import write
from sklearn.metrics import average_precision_score

from saccade import data
from saccade.audit import labels
from saccade.data import Part
from saccade.nn import pretrained
from saccade.recipe.audit import label_features
from saccade.settings import AuditSettings

PEER = """
import json, sys, numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
given = np.load(sys.argv[1])
found = find_label_issues(given["labels"], given["p"], return_indices_ranked_by="self_confidence", n_jobs=1)
scores = get_label_quality_scores(given["labels"], given["p"], method="self_confidence")
print(json.dumps({"found": found.tolist(), "order": (-scores).tolist()}))
"""


def figures(wrong_N: Any, found: Any, order_N: Any) -> dict[str, float]:
    """Return how well images are doubted, and how well their order puts the wrong ones first."""
    right = int(wrong_N[found].sum())
    return {
        "flagged": len(found),
        "recall": round(right / int(wrong_N.sum()), 3),
        "precision": round(right / max(1, len(found)), 3),
        "average_precision": round(float(average_precision_score(wrong_N, order_N)), 3),
    }


def one(pool: Part, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Draw images, plant wrong labels, and doubt all of them."""
    settings = AuditSettings(pretrained=options.pretrained)
    rng = np.random.default_rng(seed)
    part = pool.select(np.sort(rng.permutation(len(pool))[: options.images]))
    count, classes = len(part), len(part.classes)
    wrong_N = np.zeros(count, bool)
    wrong_N[rng.permutation(count)[: round(options.rate * count)]] = True
    given_N = (part.labels_N + wrong_N * rng.integers(1, classes, count)) % classes
    begun = perf_counter()
    kinds = label_features(part, np.arange(count), pretrained.find(options.pretrained), settings, math.inf)
    scores = [labels.out_of_fold(x_ND, given_N, np.arange(count)) for x_ND in kinds]
    noisy = labels.Noisy.of(np.mean(scores, axis=0), given_N)
    row: dict[str, Any] = {"seed": seed, "images": count, "planted": int(wrong_N.sum())}
    row |= {"seconds": round(perf_counter() - begun, 1), "share_estimated": round(noisy.share, 3)}
    row["saccade"] = figures(wrong_N, noisy.suspects(), noisy.wrong_N)
    if options.peer:
        with TemporaryDirectory() as folder:
            np.savez(f"{folder}/given.npz", labels=given_N, p=noisy.probabilities_NK)
            command = [options.peer, "-c", PEER, f"{folder}/given.npz"]
            told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        row["cleanlab"] = figures(wrong_N, told["found"], told["order"])
    return row


def main() -> None:
    """Run every seed, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--pretrained", default="none")
    parser.add_argument("--peer")
    options = parser.parse_args()
    images = data.open(options.source)
    pool = Part("train", images.select([i for i, part in enumerate(images.given_parts) if part in (None, "train")]))
    rows = []
    for seed in options.seeds:
        rows.append(one(pool, options, seed))
        print(json.dumps(rows[-1]), flush=True)
    with_weights = "-pretrained" if options.pretrained != "none" else ""
    write(f"labels-{options.source.stem}{with_weights}", {"rate": options.rate, "rows": rows})


if __name__ == "__main__":
    main()
