"""The report's section on averages of classifiers: who is in, by how much, and what that gained."""

from collections.abc import Mapping
from typing import Any


def averaging(summary: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the section shows of a summary, and of the test part's figures where it was looked at."""
    found = summary.get("ensemble") or (summary.get("network") or {}).get("snapshots")
    if not found:
        return None
    rows = [{**each, "average": False} for each in found["members"]]
    several = sum(row["weight"] > 0 for row in rows) > 1
    if several:
        loss = min(row["log_loss"] for row in rows) - found["gain"]
        rows.append({"name": "their average", "weight": 0.0, "accuracy": found["accuracy"], "log_loss": loss,
                     "average": True})  # fmt: skip
    rows.sort(key=lambda row: float(row["log_loss"]))
    images, groups = summary["split"]["validation"], (summary.get("validation") or {}).get("groups")
    return {"rows": rows, "found": found, "images": images, "groups": groups, "several": several,
            "test": figures.get("averaging")}  # fmt: skip
