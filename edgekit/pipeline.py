"""Run a plan: one loop over its steps, each from the store or in a child process."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from edgekit import __version__, worker
from edgekit.artifact import digest
from edgekit.errors import EdgekitError
from edgekit.plan import BuildPlan, File, Ref, Step
from edgekit.runtimes.facts import facts
from edgekit.store import Entry, Store, key_of


class Observer(Protocol):
    """Who is told how the build goes. Nothing here decides anything."""

    def started(self, step: Step) -> None: ...
    def progressed(self, step: Step, done: float, text: str) -> None: ...
    def finished(self, step: Step, reused: bool) -> None: ...
    def failed(self, step: Step, error: EdgekitError) -> None: ...
    def skipped(self, step: Step, because: str) -> None: ...


@dataclass
class Outcome:
    """What every step came to: an entry of the store, an error, or the step it had to wait for in vain."""

    entries: dict[str, Entry] = field(default_factory=dict)
    errors: dict[str, EdgekitError] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)

    def blame(self, step: str) -> str:
        """Return the failed step at the root of why ``step`` has no result."""
        while step in self.blocked:
            step = self.blocked[step]
        return step


def run(plan: BuildPlan, store: Store, observer: Observer) -> Outcome:
    """Run every step once, in order; what depends on a failed step is skipped, the rest goes on."""
    outcome = Outcome()
    for step in plan.steps.values():
        missing = _missing(step, outcome)
        if missing:
            outcome.blocked[step.id] = missing
            observer.skipped(step, outcome.blame(missing))
            continue
        observer.started(step)
        try:
            outcome.entries[step.id] = _obtain(step, outcome, store, observer)
        except EdgekitError as error:
            outcome.errors[step.id] = error
            observer.failed(step, error)
        else:
            observer.finished(step, outcome.entries[step.id].reused)
    return outcome


def _obtain(step: Step, outcome: Outcome, store: Store, observer: Observer) -> Entry:
    arguments = _present(step.arguments, outcome) if step.tolerant else step.arguments
    key = key_of(
        {
            "function": step.function,
            "arguments": _map(arguments, lambda ref: outcome.entries[ref.step].sha256(ref.name), _digest),
            "code": _code(step.stage),
            "libraries": {name: _version(name) for name in step.libraries},
            "machine": facts()["cpu"] if step.machine_bound else platform.machine(),
        }
    )

    def make(folder: Path) -> None:
        ready = _map(arguments, lambda ref: outcome.entries[ref.step].path(ref.name), lambda path: path)
        worker.run(
            step.function,
            ready,
            folder,
            lambda done, text: observer.progressed(step, done, text),
            label=step.label,
        )

    return store.obtain(
        key, make, lambda: observer.progressed(step, 0.0, "waiting for another build that is making it")
    )


def _missing(step: Step, outcome: Outcome) -> str:
    """Return a step without a result that this one cannot do without, or ""."""
    refs: list[Ref] = []
    arguments = _present(step.arguments, outcome) if step.tolerant else step.arguments
    _map(arguments, refs.append, lambda path: None)
    if step.tolerant and not all(arguments[name] for name in arguments if isinstance(step.arguments[name], list)):
        _map(step.arguments, refs.append, lambda path: None)
    return next((ref.step for ref in refs if ref.step not in outcome.entries), "")


def needs(step: Step) -> set[str]:
    """Return the steps whose results this one reads."""
    refs: list[Ref] = []
    _map(step.arguments, refs.append, lambda path: None)
    return {ref.step for ref in refs}


def _present(arguments: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    def whole(item: Any) -> bool:
        refs: list[Ref] = []
        _map(item, refs.append, lambda path: None)
        return all(ref.step in outcome.entries for ref in refs)

    return {
        name: [item for item in value if whole(item)] if isinstance(value, list) else value
        for name, value in arguments.items()
    }


def _map(value: Any, on_ref: Callable[[Ref], Any], on_file: Callable[[Path], Any]) -> Any:
    if isinstance(value, Ref):
        return on_ref(value)
    if isinstance(value, File):
        return on_file(value.path)
    if isinstance(value, dict):
        return {key: _map(item, on_ref, on_file) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map(item, on_ref, on_file) for item in value]
    return value


_digest = cache(digest)

# What of edgekit's own code a stage's results depend on, besides the stage's folder.
_SHARED = ("artifact.py", "dataset.py", "keras_io.py", "worker.py", "tasks", "runtimes", "devices")


@cache
def _code(stage: str) -> str:
    package = Path(__file__).parent
    return key_of({name: digest_of_sources(package / name) for name in (stage, *_SHARED)} | {"edgekit": __version__})


def digest_of_sources(path: Path) -> str:
    """Return one digest of a module, or of the modules of a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return key_of([(file.name, digest(file)) for file in files])


@cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
