"""The searching form of the quantize stage: a float model and samples in, the best plan that was tried out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import tasks
from edgekit.artifact import TensorSpec
from edgekit.dataset import Preprocess, open_dataset
from edgekit.errors import StageError
from edgekit.progress import Progress
from edgekit.quantize import decide
from edgekit.quantize.plan import Plan
from edgekit.quantize.stage import PLAN
from edgekit.runtimes import open_model
from edgekit.search.bases import Bases
from edgekit.search.problem import Found, Problem
from edgekit.search.record import Record, key_of
from edgekit.search.refine import Refiner
from edgekit.search.search import search
from edgekit.search.trial import EMITTERS, Trial, Trials

Arrays = dict[str, npt.NDArray[Any]]
HELD_AT_MOST = 64
_FEW = 20


@dataclass(frozen=True)
class Split:
    """Positions in the calibration data: what ranges are measured on, and what plans are judged on."""

    calibrate: range
    held: range

    @classmethod
    def of(cls, available: int, wanted: int) -> Split:
        """Hold a third apart, at most ``HELD_AT_MOST``; a single sample has to serve for both."""
        held = min(HELD_AT_MOST, available // 3)
        first = min(wanted, available - held)
        return cls(range(first), range(first, first + held) if held else range(first))


def run(
    *, out: Path, progress: Progress, model: Path, format: str, precision: str, scheme: str,
    dataset: dict[str, Any], samples: int, task: dict[str, Any], target_loss: float, seconds: float,
    reference: Path | None = None, largest_mb: float | None = None, work: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Search at most ``seconds``; write ``plan.json`` and ``model.<format>``, the float file it is a plan of.

    ``dataset``: unlabelled samples; some are calibrated on, others judge. ``target_loss``: 1 minus the agreement
    with the float model that is good enough to stop at. ``reference``: the float model to agree with, where that
    is not ``model`` itself. ``largest_mb``: what the file should stay under, in 10^6 bytes. ``work`` keeps what
    trials came to, if this is killed.
    """
    data = open_dataset(
        dataset["kind"], dataset["path"], None, Preprocess.from_json(dataset["preprocess"]), labelled=False
    )
    split = Split.of(len(data), samples)
    progress(0.0, f"calibrating on {len(split.calibrate)} samples")
    specs = _specs(model, format)
    held = [data.inputs(index, specs) for index in split.held]
    bases = Bases(model, format, lambda: (data.inputs(index, specs) for index in split.calibrate), out)
    refiner = Refiner(format, EMITTERS[format], bases.samples, out)
    plain = bases.plain()
    with Trials(format, held, out) as trials:
        attempt = _recorded(trials, work)
        judge = _Judge(attempt(reference or model, None, None), task)
        problem = Problem(
            decide=lambda base, exclude, hazards: decide.decide(
                base.model, format, precision, scheme, base.ranges,
                samples=len(split.calibrate), exclude=exclude, hazards=hazards,
                activations=base.activations,
            ),
            run=lambda base, plan, limit: attempt(base.model, plan, limit),
            loss=judge.loss,
            bases=[lambda: plain, bases.clipped, bases.repaired],
            refine=refiner.refine,
            largest_bytes=largest_mb * 1e6 if largest_mb else math.inf,
        )  # fmt: skip
        found = search(problem, target_loss, seconds, progress)
    (out / f"model.{format}").write_bytes(found.base.model.read_bytes())
    bases.clean()
    for name in ("held.npz", f"candidate.{format}"):
        (out / name).unlink(missing_ok=True)
    (out / PLAN).write_text(found.plan.to_json())
    return _summary(
        found,
        split,
        target_loss,
        [*_too_few(split), *_too_short(found, seconds), *bases.notes, *found.notes, *judge.notes],
    )


def _recorded(trials: Trials, work: Path | None) -> Callable[[Path, Plan | None, int | None], Trial]:
    """Return what runs a trial, or says what it came to before a kill."""
    if work is None:
        return trials.run
    record = Record(work)

    def attempt(model: Path, plan: Plan | None, limit: int | None) -> Trial:
        key = key_of(model, plan, limit)
        trial = record.known(key)
        if trial is None:
            trial = trials.run(model, plan, limit)
            record.add(key, trial)
        return trial

    return attempt


def _too_few(split: Split) -> list[str]:
    count = len(split.calibrate)
    if count >= _FEW:
        return []
    return [
        f"only {count} calibration sample{'s' if count > 1 else ''} set the ranges and {len(split.held)} judged the"
        " plans: others may reach further; around 100 is usual"
    ]


def _too_short(found: Found, seconds: float) -> list[str]:
    if found.complete:
        return []
    return [f"the search ran out of its {seconds:g} s; --time-budget, or search_seconds in the recipe, gives it more"]


class _Judge:
    """Compares a trial's predictions with the float model's, the way the task reads them."""

    def __init__(self, reference: Trial, task: dict[str, Any]) -> None:
        if reference.refusal:
            raise StageError(f"The float model does not run: {reference.refusal}.")
        self.table = {**task, "classes": ()}
        self.notes: list[str] = []
        self._read(reference, task["kind"])
        try:
            self.task.agreement(self.reference, self.reference)
        except StageError as error:  # nothing that the task could compare
            self.notes.append(f"{error.message} Plans were judged by their raw outputs instead.")
            self._read(reference, "generic")

    def _read(self, reference: Trial, kind: str) -> None:
        self.task = tasks.load(kind, self.table.get("adapter"))
        self.reference = self._decoded(reference)

    def _decoded(self, trial: Trial) -> list[dict[str, Any]]:
        return [self.task.decode(outputs, self.table) for outputs in trial.outputs]

    def loss(self, trial: Trial) -> float:
        return 1.0 - self.task.agreement(self.reference, self._decoded(trial))


def _specs(model: Path, format: str) -> tuple[TensorSpec, ...]:
    session = open_model(model, format)
    return tuple(TensorSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in session.inputs)


def _summary(found: Found, split: Split, target_loss: float, notes: list[str]) -> dict[str, Any]:
    return {
        "counts": found.plan.counts(),
        "samples": len(split.calibrate),
        "held_samples": len(split.held),
        "notes": [*found.plan.notes, *notes],
        "base": found.base.name,
        "target_loss": target_loss,
        "loss": _finite(found.loss),
        "reached": found.reached,
        "complete": found.complete,
        "log": [{**asdict(item), "loss": _finite(item.loss)} for item in found.log],
        "sensitivity": [
            {**asdict(item), "loss": _finite(item.loss), "error": _finite(item.error)} for item in found.sensitivity
        ],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
