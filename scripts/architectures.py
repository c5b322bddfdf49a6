"""Write src/saccade/nn/architectures.json: the fingerprints by which a file of weights is known for its network.

Every classification network of the installed torchvision and timm is built without memory for its weights;
some minutes. Run it anew after either was upgraded.
"""

import json
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

from saccade.errors import ModelError
from saccade.files import write_atomic
from saccade.nn import zoo
from saccade.nn.trunks import outline
from saccade.nn.weights import fingerprint, plainness

FILE = Path(__file__).parents[1] / "src" / "saccade" / "nn" / "architectures.json"


def described(model: str) -> tuple[str, str, tuple[str, ...]]:
    """Return a network, the fingerprint of its body and the names of its head; no fingerprint where it is not built."""
    try:
        found = outline(model)
    except (ModelError, NotImplementedError, TypeError) as error:
        print(f"{model} is left out: {error}", file=sys.stderr)
        return model, "", ()
    return model, fingerprint(found.body), tuple(sorted(found.head))


def main() -> None:
    """Write the table, a fingerprint a line."""
    listed = zoo.names()
    models = sorted([*listed["torchvision"], *listed["timm"]], key=plainness)
    bodies, heads = defaultdict(list), set()
    with ProcessPoolExecutor() as pool:
        for model, body, head in pool.map(described, models, chunksize=8):
            if body:
                bodies[body].append(model)
                heads.add(head)
    rows = [f"{json.dumps(body)}: {json.dumps(bodies[body])}" for body in sorted(bodies)]
    versions = json.dumps({name: version(name) for name in ("torchvision", "timm")})
    text = '{"versions": %s,\n"heads": [\n%s\n],\n"bodies": {\n%s\n}}\n'
    write_atomic(FILE, text % (versions, ",\n".join(map(json.dumps, sorted(heads))), ",\n".join(rows)))


if __name__ == "__main__":
    main()
