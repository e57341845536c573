"""What was planned for every op, as data: its precision and why. Part of ``report.json``."""

from __future__ import annotations

from pydantic import Field

from edgekit.report.measured import Model


class PlannedOp(Model):
    """One op of the float network, and what the plan made of it."""

    name: str = Field(description="name of its first output tensor")
    kind: str
    precision: str = Field(description="float32 | int8 | int16x8 | int8-dynamic | int4-dynamic | int8-weights")
    reason: str = Field(default="", description="why it is not what the plan is; empty: nothing stood against it")
    macs: int | None = Field(default=None, description="multiply-accumulates at batch 1; null: the file does not tell")
