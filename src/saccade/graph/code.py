"""A Python file of one's own, imported: its code is run, which nothing but a file named as code ever is."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from saccade.errors import ModelError


def imported(file: Path) -> ModuleType:
    """Return the module that a Python file is; it may import its neighbours, as a script may.

    Raises ModelError where there is no such file, or what it runs fails.
    """
    if file.suffix != ".py" or not file.is_file():
        raise ModelError(f"{file} is not a Python file; expected is a file of code such as layer.py.")
    # Under a name of its own, so that a file called torch.py takes nobody's place.
    spec = importlib.util.spec_from_file_location(f"own_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    with running(file), _beside(file):
        spec.loader.exec_module(module)
    return module


@contextmanager
def running(file: Path) -> Iterator[None]:
    """Turn whatever a file's code raises within the block into a ModelError of one sentence."""
    try:
        yield
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ModelError(f"{file} failed with {reason.removesuffix(': ')}.") from error


@contextmanager
def _beside(file: Path) -> Iterator[None]:
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
