"""The ledger of looks: how often anyone on this machine has looked at a test part, in any run.

A test part is known by the hash of its images' contents, whatever they are called and wherever
they lie, so a new run folder or a copy of the photos does not make it fresh again.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_state_path

from saccade.errors import RunError
from saccade.files import append_lines, content_hash, lock, read_lines


def part_hash(image_hashes: Iterable[str]) -> str:
    """Return the hash of a part from its images' content hashes, whatever their order.

    >>> part_hash(["b", "a"]) == part_hash(["a", "b"])
    True
    """
    return content_hash("\n".join(sorted(image_hashes)).encode())


@dataclass(frozen=True)
class Ledger:
    """The looks kept in one JSONL file; `Ledger.default()` is the user's own."""

    path: Path

    @classmethod
    def default(cls) -> "Ledger":
        """Return the user's ledger: `$SACCADE_STATE/ledger.jsonl`, or the system's place for state."""
        folder = os.environ.get("SACCADE_STATE")
        return cls((Path(folder) if folder else user_state_path("saccade")) / "ledger.jsonl")

    def ready(self) -> "Ledger":
        """Return the ledger once it is known to take a look; raises RunError as `record` does."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with lock(self.path):
                append_lines(self.path, [])
        except OSError as error:
            raise self._refusal(error) from error
        return self

    def looks(self, test_hash: str) -> list[dict[str, str]]:
        """Return the looks recorded for a test part, oldest first: `test`, `when`, `run`, `command`."""
        return [line for line in read_lines(self.path) if line["test"] == test_hash]

    def record(self, test_hash: str, *, run: str, command: str) -> list[dict[str, str]]:
        """Record one look, before it is taken, and return all looks including it.

        Raises RunError where the ledger cannot be written: an uncounted look is refused.
        """
        when = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with lock(self.path):
                append_lines(self.path, [{"test": test_hash, "when": when, "run": run, "command": command}])
                return self.looks(test_hash)
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> RunError:
        return RunError(
            f"The ledger of test looks cannot be written at {self.path} ({error.strerror or error}); "
            "make it writable, or set SACCADE_STATE to a folder that is."
        )
