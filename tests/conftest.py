"""What all tests share: a ledger of their own, no colours, and a fair share of the cores."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

Saccade = Callable[..., subprocess.CompletedProcess[str]]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: several workers that each start a thread a core slow each other down.
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_state() -> Iterator[None]:
    """Keep the user's ledger of looks, terminal settings and tracebacks out of the tests, and the tests out of it."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SACCADE_STATE", folder)
        patch.setenv("NO_COLOR", "1")
        for name in ("FORCE_COLOR", "SACCADE_TRACEBACK"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _own_draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test draws from its file's RNG not depend on the tests that ran before it."""
    module = getattr(request.node, "module", None)
    if hasattr(module, "RNG"):
        import numpy as np

        monkeypatch.setattr(module, "RNG", np.random.default_rng(1))  # 0 is what the file itself draws from


@pytest.fixture
def ledger_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a ledger that no other test has written to."""
    monkeypatch.setenv("SACCADE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(scope="session")
def saccade() -> Saccade:
    """Return a function that runs the real command: saccade("fit", "digits", cwd=…)."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "saccade", *map(str, arguments)]
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            command, **{"capture_output": True, "text": True, "timeout": 170, **options}
        )

    return run


@pytest.fixture
def break_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what lets PyTorch say that there is a GPU where there is none: whatever goes there fails from then on."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("the GPU here is whole")
    return lambda: monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
