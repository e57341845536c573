"""The searching form of the quantize stage: a float model and samples in, the best plan that was tried out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import tasks
from edgekit.artifact import TensorSpec
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.progress import Progress
from edgekit.quantize import calibrate, decide
from edgekit.quantize.graph import read_graph
from edgekit.quantize.stage import PLAN
from edgekit.runtimes import open_model
from edgekit.search.search import Found, Problem, search
from edgekit.search.trial import Trial, Trials

Arrays = dict[str, npt.NDArray[Any]]
HELD_AT_MOST = 64


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
) -> dict[str, Any]:  # fmt: skip
    """Search at most ``seconds`` and write ``plan.json``.

    ``dataset``: unlabelled samples; some are calibrated on, others judge. ``target_loss``: 1 minus the agreement
    with the float model that is good enough to stop at.
    """
    data = open_dataset(
        dataset["kind"], dataset["path"], None, Preprocess.from_json(dataset["preprocess"]), labelled=False
    )
    split = Split.of(len(data), samples)
    progress(0.0, f"calibrating on {len(split.calibrate)} samples")
    specs = _specs(model, format)
    ranges = _candidate_ranges(model, format, data, split, specs)
    held = [data.inputs(index, specs) for index in split.held]
    with Trials(model, format, held, out) as trials:
        judge = _Judge(trials.run(None), task)
        problem = Problem(
            graph=read_graph(model, format),
            decide=lambda chosen, exclude, hazards: decide.decide(
                model,
                format,
                precision,
                scheme,
                chosen,
                samples=len(split.calibrate),
                exclude=exclude,
                hazards=hazards,
            ),
            run=trials.run,
            loss=judge.loss,
            ranges=ranges,
        )
        found = search(problem, target_loss, seconds, progress)
    for name in ("held.npz", f"candidate.{format}"):
        (out / name).unlink(missing_ok=True)
    (out / PLAN).write_text(found.plan.to_json())
    return _summary(found, split, target_loss)


class _Judge:
    """Compares a trial's predictions with the float model's, the way the task reads them."""

    def __init__(self, reference: Trial, task: dict[str, Any]) -> None:
        self.task = tasks.load(task["kind"])
        self.table = {**task, "classes": ()}
        self.reference = self._decoded(reference)

    def _decoded(self, trial: Trial) -> list[dict[str, Any]]:
        return [self.task.decode(outputs, self.table) for outputs in trial.outputs]

    def loss(self, trial: Trial) -> float:
        return 1.0 - self.task.agreement(self.reference, self._decoded(trial))


def _candidate_ranges(
    model: Path, format: str, data: Dataset, split: Split, specs: tuple[TensorSpec, ...]
) -> dict[str, dict[str, tuple[float, float]]]:
    return {
        "minmax": calibrate.ranges(model, format, (data.inputs(index, specs) for index in split.calibrate)),
    }


def _specs(model: Path, format: str) -> tuple[TensorSpec, ...]:
    session = open_model(model, format)
    return tuple(TensorSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in session.inputs)


def _summary(found: Found, split: Split, target_loss: float) -> dict[str, Any]:
    return {
        "counts": found.plan.counts(),
        "samples": len(split.calibrate),
        "held_samples": len(split.held),
        "notes": list(found.plan.notes),
        "target_loss": target_loss,
        "loss": _finite(found.loss),
        "reached": found.reached,
        "complete": found.complete,
        "log": [{**asdict(item), "loss": _finite(item.loss)} for item in found.log],
        "sensitivity": [{**asdict(item), "error": _finite(item.error)} for item in found.sensitivity],
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
