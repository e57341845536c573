"""Measure artifacts on a device: one fresh process each, all alive together, timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from edgekit.devices import Device, Session
from edgekit.errors import (
    CrashedError,
    DependencyError,
    DeviceError,
    DroppedError,
    EdgekitError,
    StageError,
    UnsupportedError,
)
from edgekit.profile.correctness import check_outputs
from edgekit.profile.measurement import Conditions, Measurement, is_busy, load_of_others
from edgekit.profile.schedule import Settings, Visit, plan_visit, visiting_order
from edgekit.progress import Progress
from edgekit.report.schema import Latency, OpTime
from edgekit.runtimes.facts import TEGRASTATS, tegrastats

_OPS_TIMEOUT_S = 60.0
_PATIENCE = 20  # a visit may take this many times what the warm-up promised before it counts as hanging
_WORDS_OF_A_NOTE = 300
_FEWEST_READINGS = 5


@dataclass(frozen=True)
class Job:
    """One artifact to measure. ``expected`` is an .npz of the outputs it must give for the inputs.

    ``tolerance`` is a share of an output's largest magnitude: 1e-4 is float noise between CPUs, an int8
    artifact may need one step, about 1/255. ``inputs`` replaces the common ones where it takes others.
    """

    name: str
    path: Path
    format: str
    expected: Path | None = None
    tolerance: float = 1e-4
    inputs: Path | None = None


@dataclass
class _Running:
    """A job whose process is up and warm."""

    job: Job
    session: Session
    loaded: Mapping[str, Any]
    warmup_calls: int
    visit: Visit
    difference: float | None
    samples_ns: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Examined:
    """What a device came to: facts before and after, and by name how far outputs are off, and latencies.

    On an emulated device there are no latencies: only the outputs mean something.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    differences: Mapping[str, float | None]
    latencies: dict[str, Latency]


def measure(
    jobs: Sequence[Job],
    inputs: Path | None,
    *,
    threads: int,
    device: Device,
    settings: Settings | None = None,
    progress: Progress | None = None,
    failed: Callable[[str, EdgekitError], None] | None = None,
) -> dict[str, Latency]:
    """Return the latencies of ``examine``."""
    examined = examine(
        jobs, inputs, threads=threads, device=device, settings=settings, progress=progress, failed=failed
    )
    return examined.latencies


def examine(
    jobs: Sequence[Job],
    inputs: Path | None,
    *,
    threads: int,
    device: Device,
    settings: Settings | None = None,
    progress: Progress | None = None,
    failed: Callable[[str, EdgekitError], None] | None = None,
) -> Examined:
    """Check every job's outputs on the device, then time all of them, interleaved.

    ``failed`` is told of a file that does not load, crashes or gives wrong values, and the others are timed without it.
    ``inputs`` is an .npz keyed by input name, batch 1; without it the inputs are synthetic, good for timing
    alone. Raises StageError for a model that fails or computes NaN or wrong values, UnsupportedError for one that
    the runtime there refuses, DeviceError for a process that dies or hangs; all name the artifact. No process
    outlives the call.
    """
    settings = settings or Settings()
    tell: Progress = progress or (lambda done, what: None)
    if len({job.name for job in jobs}) != len(jobs):
        raise StageError("two artifacts to measure have the same name")
    facts = device.describe()
    if not jobs:
        return Examined(facts, facts, {}, {})
    with ExitStack() as stack:
        running = []
        for index, job in enumerate(jobs):
            tell(0.3 * index / len(jobs), f"loading {job.name}")
            try:
                running.append(_prepare(job, inputs, threads, device, settings, stack, facts["emulated"]))
            except (StageError, UnsupportedError, CrashedError) as error:
                if failed is None:
                    raise
                failed(job.name, error)
        differences = {one.job.name: one.difference for one in running}
        if not running or facts["emulated"]:
            return Examined(facts, facts, differences, {})
        before = [_ask(r, "usage", settings) for r in running]
        _time_in_turns(running, settings, tell)
        others = load_of_others(before, [_ask(r, "usage", settings) for r in running])
        after = device.describe()
        peaks = {r.job.name: _ask(r, "memory", settings)["peak_bytes"] for r in running}
        energies = {r.job.name: _energy(r, settings, tell) for r in running if facts.get("power_w") is not None}
    latencies = {}
    for index, done in enumerate(running):
        tell(0.8 + 0.2 * index / len(running), f"per-op times of {done.job.name}")
        ops, note, nodes = _op_times(done.job, threads, device, settings)
        latency = _latency(done, facts, threads, device, peaks[done.job.name])
        flags = set(latency.flags)
        if after.get("slowed_by"):
            flags.add("throttled")
        if is_busy(others, facts["cores"]):
            flags.add("busy")
        if done.loaded.get("fallback"):
            flags.add("cpu_fallback")
        latencies[done.job.name] = latency.model_copy(
            update={
                "ops": ops, "ops_note": note, "nodes": nodes or done.loaded.get("nodes", {}), "flags": sorted(flags),
                "energy_mj": energies.get(done.job.name),
            }
        )  # fmt: skip
    tell(1.0, "measured")
    return Examined(facts, after, differences, latencies)


def _prepare(
    job: Job, inputs: Path | None, threads: int, device: Device, settings: Settings, stack: ExitStack, emulated: bool
) -> _Running:
    """Start the job's process, load, check the outputs, warm up and plan its visits."""
    session = stack.enter_context(device.connect(job.name))
    loaded = session.ask(
        "load",
        settings.timeout_s,
        path=job.path,
        format=job.format,
        threads=threads,
        inputs=job.inputs or inputs,
        seed=settings.seed,
    )
    outputs = session.ask("outputs", settings.timeout_s)["outputs"]
    difference = None
    if outputs is not None:  # TFLite's benchmark_model shows none
        difference = check_outputs(job.name, outputs, job.expected, max(job.tolerance, loaded.get("tolerance", 0.0)))
    if emulated:
        return _Running(job, session, loaded, 0, Visit(0, 0, 0, 0.0), difference)
    warm = session.ask(
        "warmup",
        max(settings.timeout_s, _PATIENCE * settings.warmup_calls * loaded["first_call_ns"] / 1e9),
        calls=settings.warmup_calls,
        seconds=settings.warmup_s,
    )
    visit = plan_visit(warm["fastest_ns"], settings, loaded.get("timer_step_ns", 1))
    return _Running(job, session, loaded, warm["calls"], visit, difference)


def _time_in_turns(running: Sequence[_Running], settings: Settings, tell: Progress) -> None:
    """Visit every process once a round; its samples of all rounds are one series."""
    by_name = {r.job.name: r for r in running}
    order = visiting_order(list(by_name), settings.rounds, settings.seed)
    for turn, name in enumerate(order):
        tell(0.3 + 0.5 * turn / len(order), f"timing {name}")
        one = by_name[name]
        one.samples_ns += _ask(
            one,
            "group",
            settings,
            samples=one.visit.samples,
            calls_per_sample=one.visit.calls_per_sample,
            lead_in=one.visit.lead_in_calls,
            limit_s=settings.limit_s / settings.rounds,
        )["samples_ns"]


def _ask(running: _Running, command: str, settings: Settings, **arguments: Any) -> dict[str, Any]:
    patience_s = max(settings.timeout_s, _PATIENCE * running.visit.expected_s)
    return running.session.ask(command, patience_s, **arguments)


def _energy(running: _Running, settings: Settings, tell: Progress) -> float | None:
    """Return mJ per call of the whole board while calls follow each other; None where too little was read."""
    tell(0.8, f"energy of {running.job.name}")
    found = _ask(running, "energy", settings, meter=TEGRASTATS, seconds=settings.energy_s)
    watts = [power for line in found["readings"] if (power := tegrastats(line)[0]) is not None]
    if len(watts) < _FEWEST_READINGS or not found["calls"]:
        return None
    return 1000 * fmean(watts) * float(found["seconds"]) / int(found["calls"])


def _op_times(
    job: Job, threads: int, device: Device, settings: Settings
) -> tuple[list[OpTime], str, Mapping[str, int]]:
    """Return the time of each op, or nothing and the reason, and who runs how many: no other figure depends on them."""
    if settings.ops_runs == 0:
        return [], "per-op times were not asked for", {}
    try:
        with device.connect(job.name) as session:
            reply = session.ask(
                "ops", _OPS_TIMEOUT_S, path=job.path, format=job.format, threads=threads, runs=settings.ops_runs
            )
    except DroppedError:
        raise
    except (StageError, DeviceError, DependencyError) as error:
        return [], f"the runtime gave no per-op times: {error.message[:_WORDS_OF_A_NOTE]}", {}
    return [OpTime(**op) for op in reply["ops"]], "", reply.get("nodes", {})


def _latency(done: _Running, facts: Mapping[str, Any], threads: int, device: Device, peak_memory_bytes: int) -> Latency:
    conditions = Conditions(
        device.place,
        f"{facts['cpu']}, {facts['cores']} cores",
        str(done.loaded["runtime"]),
        str(done.loaded["version"]),
        threads,
    )
    measured = Measurement(conditions, tuple(done.samples_ns), done.visit.calls_per_sample)
    return Latency(
        place=device.place,
        machine=conditions.machine,
        runtime=conditions.runtime,
        runtime_version=conditions.runtime_version,
        threads=threads,
        warmup_calls=done.warmup_calls,
        min_ms=measured.min_ms,
        p50_ms=measured.percentile_ms(50),
        p90_ms=measured.percentile_ms(90),
        p99_ms=measured.percentile_ms(99),
        samples_ns=list(measured.samples_ns),
        calls_per_sample=measured.calls_per_sample,
        load_ms=done.loaded["load_ns"] / 1e6,
        first_call_ms=done.loaded["first_call_ns"] / 1e6,
        peak_memory_bytes=peak_memory_bytes,
        flags=measured.flags(),
    )
