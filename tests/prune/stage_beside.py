"""The prune stage for a child process, with trainings side by side however short they are."""

from __future__ import annotations

from typing import Any

from edgekit.prune import side_by_side, stage


def run(**asked: Any) -> dict[str, Any]:
    side_by_side._WORTH = 0.0
    return stage.run(**asked)
