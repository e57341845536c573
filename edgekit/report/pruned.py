"""What pruning did, as data: what was tried, and the curve it was measured on. Part of ``report.json``."""

from __future__ import annotations

from pydantic import Field

from edgekit.report.measured import Accuracy, Latency, Model
from edgekit.report.thinned import LowRankSummary, SparsitySummary


class Gap(Model):
    """Control minus this, in points of the primary metric, paired."""

    control: str
    points: float
    low_points: float
    high_points: float


class CurvePoint(Model):
    """One float network of the accuracy-latency curve: scored on the test samples, timed in turns with the others."""

    name: str = Field(description="unpruned | control-seed-S | keep-SHARE-seed-S | student-seed-S")
    accuracy: Accuracy
    latency: Latency | None
    latency_note: str = Field(default="", description="why there is no latency, if so")
    against_control: Gap | None = Field(default=None, description="null for the control itself, or without one")


class Tried(Model):
    """One network that pruning recovered."""

    name: str
    keep: float = Field(description="share of the multiply-accumulates that was to stay; 1 for a control")
    seed: int
    macs: int = Field(description="0 where nothing was cut")
    parameters: int
    epochs: int
    best_epoch: int = Field(description="the epoch, from 1, whose weights were taken")
    seconds: float
    refit: str = Field(default="", description="what the closed-form repair kept, before training; empty: not tried")
    unsolved: list[str] = Field(default=[], description="layers behind a cut that the repair has no equations for")
    drop_points: float | None = Field(description="on held samples, against the unpruned model; null: none were held")


class Predicted(Model):
    """What the choice of channels counted on: sums of op times, measured one by one. What came of it: the latencies."""

    place: str = Field(description="runtime, precision, threads and machine")
    before_ms: float
    after_ms: float


class PruneSummary(Model):
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    recovery: str = Field(description="what it learned from")
    recovery_epochs: int
    exactness_error: float | None = Field(
        description="pruned against zeroed original before recovery, relative; null where nothing was cut"
    )
    frozen: list[str] = Field(default=[], description="layers left alone, with the reason")
    minutes: float = Field(default=0.0, description="of recovery, over everything that was tried")
    control_minutes: float | None = Field(default=None, description="of training the unpruned model as long")
    at_once: int = Field(default=1, description="trainings side by side: their minutes overlap, and each took longer")
    chosen: str = Field(default="", description="name of the network that went on, among those tried")
    judged_by: str = Field(default="", description="what held samples were judged by while choosing an amount")
    tried: list[Tried] = Field([])
    cost: str = Field(default="", description="what was to be saved: latency | macs | parameters | uniform")
    predicted: list[Predicted] = Field(default=[], description="empty where the cost is no latency")
    curve: list[CurvePoint] = Field(default=[], description="empty where there is nothing but before and after")
    low_rank: LowRankSummary | None = Field(default=None, description="null where the recipe did not ask for it")
    sparsity: SparsitySummary | None = Field(default=None, description="null where the recipe did not ask for it")
    checkpoint: str = Field(default="", description="where the pruned network was taken from, if it was not made now")
