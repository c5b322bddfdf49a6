"""What recording costs: four networks of timm, a forward and a backward pass with and without, and the same gradients.

python benchmarks/graph.py [--side 224] [--batch 2] [--repeats 3]
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from _common import write
from torch import Tensor, nn

from saccade.graph import Graph, trace

NETWORKS = ("resnet18", "mobilenetv3_large_100", "convnext_tiny", "vit_tiny_patch16_224")


def compare(name: str, side: int, batch: int, repeats: int) -> dict[str, object]:
    """Return median seconds of a pass without and with recording, alternately, and whether all gradients are equal."""
    import timm

    torch.manual_seed(0)
    options = {"img_size": side} if name.startswith("vit") else {}
    network: nn.Module = timm.create_model(name, num_classes=10, **options)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    x, labels = torch.randn(batch, 3, side, side), torch.arange(batch) % 10

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(network(x), labels)

    def plain() -> None:
        network.zero_grad()
        loss(x).backward()  # type: ignore[no-untyped-call]

    last: dict[str, Graph] = {}

    def traced() -> None:
        last["graph"] = trace(loss, x)

    seconds: dict[str, list[float]] = {"plain": [], "traced": []}
    for _ in range(repeats + 1):  # the first warms up
        for kind, run in (("plain", plain), ("traced", traced)):
            network.load_state_dict(state)
            torch.manual_seed(1)
            seconds[kind].append(timed(run))
    same = all(torch.equal(last["graph"].gradients[key], p.grad) for key, p in network.named_parameters())  # type: ignore[arg-type]
    without, with_ = (median(seconds[kind][1:]) for kind in ("plain", "traced"))
    return {"network": name, "plain": without, "traced": with_, "ratio": with_ / without, "same_gradients": same}


def timed(run: Callable[[], object]) -> float:
    """Return the seconds a call takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    """Measure every network, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rows = [compare(name, given.side, given.batch, given.repeats) for name in NETWORKS]
    for row in rows:
        print(
            "{network:<24} {plain:7.3f} s  traced {traced:7.3f} s  x {ratio:.2f}  same {same_gradients}".format(**row)
        )
    write("graph", {"side": given.side, "batch": given.batch, "rows": rows})


if __name__ == "__main__":
    main()
