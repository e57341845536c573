"""Run a plan: each step from the store or in a child process, independent steps side by side."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from edgekit import __version__, worker
from edgekit.artifact import digest
from edgekit.errors import EdgekitError, RecipeError, StageError
from edgekit.progress import Progress
from edgekit.runtimes.facts import facts
from edgekit.steps import BuildPlan, File, Ref, Step
from edgekit.store import Entry, Store, key_of


class Observer(Protocol):
    """Who is told how the build goes, always from the thread that builds. Nothing here decides anything."""

    def planned(self, steps: int) -> None: ...
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


def run(plan: BuildPlan, store: Store, observer: Observer, jobs: int) -> Outcome:
    """Run every step once its inputs are there, at most ``jobs`` at a time, a timing step always alone.

    Steps on devices come on top, one at a time on each: they load this host little. What depends on a failed step is
    skipped, the rest goes on.
    """
    observer.planned(len(plan.steps))
    devices = {step.busy_with for step in plan.steps.values() if step.device}
    with ThreadPoolExecutor(max_workers=jobs + len(devices)) as pool:
        return _Run(plan, store, observer, jobs, pool).run()


class _Run:
    """One run of a plan. Threads only wait for child processes; this thread decides and tells the observer."""

    def __init__(self, plan: BuildPlan, store: Store, observer: Observer, jobs: int, pool: ThreadPoolExecutor) -> None:
        self.store, self.observer, self.jobs, self.pool = store, observer, jobs, pool
        self.ahead = dict(plan.steps)
        self.running: dict[str, Step] = {}
        self.outcome = Outcome()
        self.children = worker.Children()
        self.events: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def run(self) -> Outcome:
        try:
            while self.ahead or self.running:
                while step := self._next():
                    self._start(self.ahead.pop(step.id))
                if self.running:
                    self.events.get()()
                elif self.ahead:
                    raise ValueError(f"steps that wait for what no step makes: {', '.join(self.ahead)}")
        except BaseException:
            self.children.end()
            raise
        return self.outcome

    def _next(self) -> Step | None:
        """Return the first step of the plan that can start now."""
        outcome = self.outcome
        settled = outcome.entries.keys() | outcome.errors.keys() | outcome.blocked.keys()
        return next(
            (step for step in self.ahead.values() if _waits_for(step) <= settled and self._has_room(step)), None
        )

    def _has_room(self, step: Step) -> bool:
        running = self.running.values()
        if any(other.alone for other in running) or (step.alone and running):
            return False
        if step.device:
            return all(other.busy_with != step.busy_with for other in running)
        return sum(not other.device for other in running) < self.jobs

    def _start(self, step: Step) -> None:
        if missing := _missing(step, self.outcome):
            self.outcome.blocked[step.id] = missing
            self.observer.skipped(step, self.outcome.blame(missing))
            return
        self.running[step.id] = step
        self.observer.started(step)
        arguments = _present(step.arguments, self.outcome) if step.tolerant else step.arguments
        inputs = {name: self.outcome.entries[name] for name in needs(step) if name in self.outcome.entries}
        tell = partial(self._tell, step)
        future = self.pool.submit(_obtain, step, arguments, inputs, self.store, self.children, self.jobs, tell)
        future.add_done_callback(lambda ended: self.events.put(partial(self._ended, step, ended)))

    def _tell(self, step: Step, done: float, text: str) -> None:
        """Pass progress on from a step's thread."""
        if self.children.ended:
            raise StageError("The build was ended.")
        self.events.put(partial(self.observer.progressed, step, done, text))

    def _ended(self, step: Step, ended: Future[Entry]) -> None:
        del self.running[step.id]
        try:
            entry = self.outcome.entries[step.id] = ended.result()
        except EdgekitError as error:
            self.outcome.errors[step.id] = error
            self.observer.failed(step, error)
        else:
            self.observer.finished(step, entry.reused)


def _obtain(
    step: Step, arguments: dict[str, Any], inputs: dict[str, Entry], store: Store,
    children: worker.Children, jobs: int, tell: Progress,
) -> Entry:  # fmt: skip
    key = key_of(
        {
            "function": step.function,
            "arguments": _map(arguments, lambda ref: inputs[ref.step].sha256(ref.name), known_digest),
            "code": _code(step.stage),
            "libraries": {name: _version(name) for name in step.libraries},
            "machine": facts()["cpu"] if step.machine_bound else platform.machine(),
            "device": identity_of(step.device, children, tell) if step.device else None,
        }
        | ({"custom": known_digest(step.custom)} if step.custom else {})
    )

    def make(folder: Path) -> None:
        ready = _map(arguments, lambda ref: inputs[ref.step].path(ref.name), lambda path: path)
        if step.resumable:
            ready["work"] = store.unfinished(key)
        if step.parallel:
            ready["jobs"] = jobs
        worker.run(
            step.function, ready, folder, tell,
            label=step.label, children=children, own_cpu=step.machine_bound, custom=step.custom,
        )  # fmt: skip

    return store.obtain(key, make, lambda: tell(0.0, "waiting for another build that is making it"))


def identity_of(address: str, children: worker.Children, tell: Progress) -> dict[str, Any]:
    """Return what the device at an address is; one that was replaced is measured again. Raises DeviceError."""
    name = address.partition("?")[0]
    tell(0.0, f"looking at {name}")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        arguments = {"address": address}
        return worker.run("edgekit.devices.identity:run", arguments, Path(folder), tell, label=name, children=children)


def _missing(step: Step, outcome: Outcome) -> str:
    """Return a step without a result that this one cannot do without, or ""."""
    if step.after and not outcome.entries.keys() & set(step.after):
        return step.after[0]
    refs: list[Ref] = []
    arguments = _present(step.arguments, outcome) if step.tolerant else step.arguments
    _map(arguments, refs.append, lambda path: None)
    if step.tolerant and not all(arguments[name] for name in arguments if isinstance(step.arguments[name], list)):
        _map(step.arguments, refs.append, lambda path: None)
    return next((ref.step for ref in refs if ref.step not in outcome.entries), "")


def _waits_for(step: Step) -> set[str]:
    return needs(step) | set(step.after)


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


@cache  # a build asks for the same data again and again
def known_digest(path: Path) -> str:
    """Return the digest of a file or folder of the user. Raises RecipeError where it cannot be read."""
    try:
        return digest(path)
    except OSError as error:
        raise RecipeError(
            f"Cannot read {error.filename or path}: {error.strerror or error}.",
            "It was there when the build began. Put it back: the same command goes on from there.",
        ) from error


# What of edgekit's own code a stage's results depend on, besides the stage's folder.
_SHARED = (
    "artifact.py",
    "dataset.py",
    "keras_io.py",
    "named_code.py",
    "source",
    "worker.py",
    "tasks",
    "runtimes",
    "devices",
)
_ALSO = {
    "prune": ("convert", "profile"),  # layers are timed as files
    "quantize": ("search", "convert"),  # a search emits what it tries
    "finetune": ("search", "quantize", "convert", "prune"),
    "diagnose": ("quantize",),
}


@cache
def _code(stage: str) -> str:
    package = Path(__file__).parent
    return key_of(
        {name: digest_of_sources(package / name) for name in (stage, *_ALSO.get(stage, ()), *_SHARED)}
        | {"edgekit": __version__}
    )


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
