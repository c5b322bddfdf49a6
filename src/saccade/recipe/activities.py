"""What a network's activations do before and after training, for the report; a network that is dead is told at once."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from saccade.data import Part
from saccade.events import Finding, emit
from saccade.nn.activity import Activity, activity, readings
from saccade.train.checkpoint import Checkpoint
from saccade.train.session import Session

IMAGES, PIXELS = 64, 400_000
"""At most so many, enough to tell a dead unit from one that is silent on a few; of large ones fewer, for the time."""


@dataclass(frozen=True)
class Activities:
    """Validation images to measure on, and what was found on them before the first step."""

    x_NHWC: torch.Tensor
    start: list[dict[str, Any]]
    faults: list[str]

    @classmethod
    def of(cls, session: Session, validation: Part, kept: Checkpoint | None) -> "Activities":
        """Return what the new network does, or the checkpoint's record of it; emits a Finding a fault."""
        most = max(2, min(IMAGES, PIXELS // session.forward.side**2, len(validation)))
        x_NHWC = session.forward.images(validation.select(range(min(most, len(validation)))))
        if kept is not None:
            recorded = kept.plain.get("activations", [])
            return cls(x_NHWC, recorded, readings([Activity(**each) for each in recorded]))
        found = _measured(session, x_NHWC)
        faults = readings(found)
        for fault in faults:
            emit(Finding(kind="activations", severity="warning", detail=f"Before training: {fault}"))
        return cls(x_NHWC, [asdict(each) for each in found], faults)

    def told(self, session: Session) -> dict[str, Any]:
        """Return what the summary says: before, after, and the faults there were before."""
        end = [asdict(each) for each in _measured(session, self.x_NHWC)]
        return {"images": len(self.x_NHWC), "start": self.start, "end": end, "faults": self.faults}


def _measured(session: Session, x_NHWC: torch.Tensor) -> list[Activity]:
    """Return what the activations do; nothing of one image, which batch norm refuses, or where numbers overflow."""
    if len(x_NHWC) < 2:
        return []
    found = activity(session.network, session.forward.to_input(x_NHWC))
    return found if all(math.isfinite(each.sd) for each in found) else []
