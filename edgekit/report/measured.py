"""What was measured, as data: accuracy, latency and the device they belong to. Part of ``report.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Place = Literal["host", "device"]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(Model):
    """The task metric of one artifact, run in its own runtime on the test samples."""

    metric: str = Field(description="name of the primary metric, e.g. mAP@[.5:.95] or top-1")
    value: float = Field(description="0 to 1, higher is better")
    secondary: dict[str, float] = Field(default={}, description="other figures of the task, e.g. mAP@.5")
    per_class: dict[str, float] = Field(default={}, description="the primary metric for each class")
    samples: int = Field(description="how many test samples were scored")
    drop_points: float | None = Field(default=None, description="baseline minus this, in points")
    drop_low_points: float | None = Field(default=None, description="paired bootstrap interval, lower end")
    drop_high_points: float | None = Field(default=None, description="paired bootstrap interval, upper end")
    interval_level: float = 0.95
    runtime: str
    runtime_version: str


class OpTime(Model):
    """Time in one op (or fused group) of the network, per inference."""

    name: str
    kind: str
    ms: float


class Latency(Model):
    """Latency of one artifact. Host figures are never a board's figures: ``place`` says where."""

    place: Place
    machine: str = Field(description="CPU model and core count of where it ran")
    runtime: str
    runtime_version: str
    threads: int
    warmup_calls: int
    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    samples_ns: list[int] = Field(
        description="raw time per call, in the order measured (a group's mean for very short calls)"
    )
    calls_per_sample: int = Field(description="calls in one timed group; 1 where a call is far above timer noise")
    load_ms: float
    first_call_ms: float
    peak_memory_bytes: int = Field(
        description="VmHWM of a fresh process that loaded and ran only this artifact; in a browser "
        "the WebAssembly memory of its runtime"
    )
    flags: list[str] = Field(default=[], description="unstable | throttled | busy | emulated | cpu_fallback")
    ops: list[OpTime] = Field(default=[], description="empty where the runtime gives none")
    ops_note: str = Field(default="", description="why there are no per-op times, if so")
    nodes: dict[str, int] = Field(
        default={}, description="how many nodes of the network each executes, e.g. XNNPACK 64; empty: it does not say"
    )
    energy_mj: float | None = Field(
        default=None, description="of the whole board per call, calls in a row; null where no power rail is read"
    )


class DeviceState(Model):
    """What of a device may change while it measures; "" or null where it does not say."""

    load: float | None = None
    governor: str = ""
    frequency_mhz: float | None = None
    max_frequency_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = Field(default=None, description="of the whole board at that moment, where a rail says it")
    slowed_by: list[str] = Field(default=[], description="e.g. under-voltage, throttled: now, not since boot")
    power_mode: str = Field(default="", description="of a Jetson, e.g. MAXN")


class DeviceRun(Model):
    """One artifact on a connected device: its outputs held against the host's first, then timed."""

    device: str = Field(description="its address")
    machine: str
    system: str
    emulated: bool = Field(description="an emulator computes right, but its time means nothing: none is reported")
    difference: float | None = Field(
        description="largest difference from the host's outputs: steps of an integer output, share of the range of a "
        "float one; 0 is bit-equal, null was not compared"
    )
    latency: Latency | None = None
    clocks: str = Field(default="", description="what --lock-clocks set, and what was before; empty: nothing was set")
    before: DeviceState
    after: DeviceState
