"""What makes two runs incomparable: other data, another device, another runtime. Each is named."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from edgekit.report import figures
from edgekit.report.schema import Compared, Latency, Report, TargetReport

TIMED: frozenset[Compared] = frozenset({"speedup_percent", "latency_percent", "memory_percent"})
SCORED: frozenset[Compared] = frozenset({"accuracy_points"})


@dataclass(frozen=True)
class Difference:
    """One condition that changed. ``spoils`` are the metrics that mean nothing across it."""

    what: str
    before: str
    now: str
    spoils: frozenset[Compared]
    target: str = ""

    def __str__(self) -> str:
        where = f"{self.target}: " if self.target else ""
        return f"{where}{self.what}: {self.before} in the baseline, {self.now} in this run"


def differences(now: Report, before: Report) -> list[Difference]:
    """Return every condition of measuring in which two runs differ, each once."""
    found = [*_data(now, before)]
    theirs = {target.target: target for target in before.targets}
    for target in now.targets:
        if target.target in theirs:
            found += _conditions(target, theirs[target.target])
    return list(dict.fromkeys(found))


def spoiled(found: Collection[Difference], metric: Compared, target: str) -> list[Difference]:
    """Return the differences that forbid comparing ``metric`` on ``target``."""
    return [item for item in found if metric in item.spoils and item.target in ("", target)]


def _data(now: Report, before: Report) -> Iterator[Difference]:
    ours, theirs = now.identity.test_sha256, before.identity.test_sha256
    if not ours or ours != theirs:
        yield Difference("test data", _short(theirs, before), _short(ours, now), SCORED)
    if now.source.task != before.source.task:
        yield Difference("task", before.source.task, now.source.task, SCORED)


def _short(sha256: str, report: Report) -> str:
    return f"{report.test_samples} samples, {f'sha256 {sha256[:12]}' if sha256 else 'no hash'}"


def _conditions(now: TargetReport, before: TargetReport) -> Iterator[Difference]:
    name = now.target
    ours, theirs = _scored_in(now), _scored_in(before)
    if ours and theirs and ours != theirs:
        words = ("metric", "runtime that scores")
        for what, old, new in zip(words, theirs, ours, strict=True):
            if old != new:
                yield Difference(what, old, new, SCORED, name)
    timed, timed_before = _timed_in(now), _timed_in(before)
    if timed and timed_before:
        for what, old, new in (
            ("device", _device(timed_before), _device(timed)),
            ("runtime", figures.runtime(timed_before.runtime, timed_before.runtime_version),
             figures.runtime(timed.runtime, timed.runtime_version)),
            ("threads", str(timed_before.threads), str(timed.threads)),
        ):  # fmt: skip
            if old != new:
                yield Difference(what, old, new, TIMED, name)


def _scored_in(target: TargetReport) -> tuple[str, str] | None:
    accuracy = next((variant.accuracy for variant in target.variants if variant.accuracy), None)
    return (accuracy.metric, figures.runtime(accuracy.runtime, accuracy.runtime_version)) if accuracy else None


def _timed_in(target: TargetReport) -> Latency | None:
    return next((variant.latency for variant in target.variants if variant.latency), None)


def _device(latency: Latency) -> str:
    return f"{latency.machine} ({latency.place})"
