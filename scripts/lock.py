"""Write constraints.txt: the exact versions, in this environment, of all that saccade[dev] needs anywhere.

What only one kind of machine can install (CUDA's packages, Triton) is left to PyTorch's own pins.
"""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ONE_PLATFORM = re.compile(r"(nvidia|cuda|triton|intel|mkl|tbb)\b")
HEAD = """\
# The versions saccade is tested with, on every platform; `make lock` writes this file from .venv.
# CUDA's packages and Triton are left out: PyTorch pins its own where they exist.
"""


def closure(requirement: Requirement, found: dict[str, str]) -> None:
    """Add to `found` the installed version of a requirement and of all it needs here."""
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    if ONE_PLATFORM.match(name):
        return
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return
    known = name in found
    found[name] = installed.version
    extras = requirement.extras | {""}
    for text in installed.requires or ():
        needed = Requirement(text)
        wanted = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
        if wanted and not (known and not requirement.extras):
            closure(needed, found)


if __name__ == "__main__":
    versions: dict[str, str] = {}
    closure(Requirement("saccade[dev]"), versions)
    del versions["saccade"]
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    (Path(__file__).parents[1] / "constraints.txt").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
