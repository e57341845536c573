"""The fine-tuning of a build: one student for all searches that missed, kept where it measures better."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.progress import Progress
from edgekit.quantize.plan import Plan

STUDENT, SUMMARY, PLAN, RESULT = "student", "summary.json", "plan.json", "result.json"


def run(
    *, out: Path, progress: Progress, model: Path, searches: list[dict[str, Path]], dataset: dict[str, Any],
    samples: int, parity_samples: int, settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Fine-tune ``model`` if one of the ``searches`` (their result and plan) missed; write it to ``student/``.

    ``student/summary.json`` is always there, the network and its float graph only where training brought it closer
    to the float model. ``samples``: how many the searches calibrate on; what judges them is not learned from.
    """
    student = out / STUDENT
    student.mkdir()
    missed = [files[PLAN] for files in searches if not json.loads(files[RESULT].read_text())["reached"]]
    summary: dict[str, Any] = {"needed": bool(missed), "trained": False}
    if missed:
        tuning = import_module("edgekit.finetune.student")  # TensorFlow takes seconds to load, and may not be needed
        plans = [Plan.from_json(path.read_text()) for path in missed]
        summary |= tuning.fine_tune(student, progress, model, dataset, samples, parity_samples, settings, plans)
    (student / SUMMARY).write_text(json.dumps(summary))
    return summary


def choose(
    *, out: Path, progress: Progress, model: Path, format: str, searched: dict[str, Path], student: Path,
    tolerance: float, **searching: Any,
) -> dict[str, Any]:  # fmt: skip
    """Write ``plan.json`` and ``model.<format>``: of the search as it was, or of the student where that is better.

    ``searched``: what the search on ``model`` wrote. ``searching``: the other arguments of a search; the student's
    plans are held against ``model``, on the samples that judged the first ones. The result is a search's, with
    ``finetune`` beside it.
    """
    summary = json.loads((student / SUMMARY).read_text())
    trained = summary.pop("trained")
    first = json.loads(searched[RESULT].read_text())
    if first["reached"]:
        return _taken(out, format, searched, first, summary | {"kept": False}, "")
    if not trained:
        note = "fine-tuning brought the network no closer to the float model in int8"
        return _taken(out, format, searched, first, summary | {"kept": False}, note)
    with tempfile.TemporaryDirectory(dir=out, prefix="second-") as name:
        folder = Path(name)
        tuned = import_module("edgekit.finetune.student")
        second = tuned.search_again(folder, progress, model, format, student, tolerance, searching)
        better = _rank(second) < _rank(first)
        summary |= {"kept": better, "loss_before": first["loss"], "loss_after": second["loss"]}
        if not better:
            note = f"fine-tuning bought nothing: {_agreement(second)} agreement in int8, {_agreement(first)} before"
            return _taken(out, format, searched, first, summary, note)
        note = (
            f"fine-tuned on {summary['samples']} unlabelled samples for {summary['best_epoch']} epochs: agreement with"
            f" the float model {_agreement(first)} -> {_agreement(second)}, ops left float {_float_ops(first)} ->"
            f" {_float_ops(second)}"
        )
        files = {file: folder / file for file in (PLAN, f"model.{format}")}
        return _taken(out, format, files, second, summary, note)


def _taken(
    out: Path, format: str, files: dict[str, Path], result: dict[str, Any], summary: dict[str, Any], note: str
) -> dict[str, Any]:
    """Copy a search's files here; the plan and the result say what fine-tuning came to."""
    notes = [note] if note else []
    plan = Plan.from_json(files[PLAN].read_text())
    (out / PLAN).write_text(replace(plan, notes=(*plan.notes, *notes)).to_json())
    shutil.copyfile(files[f"model.{format}"], out / f"model.{format}")
    return result | {"notes": [*notes, *result["notes"]], "finetune": summary}


def _rank(result: dict[str, Any]) -> tuple[bool, float]:
    """Order searches: one that reached its aim before one that did not, then by what is lost."""
    return not result["reached"], float("inf") if result["loss"] is None else result["loss"]


def _agreement(result: dict[str, Any]) -> str:
    return "no" if result["loss"] is None else f"{100 * (1 - result['loss']):.2f} %"


def _float_ops(result: dict[str, Any]) -> int:
    return int(result["counts"].get("float32", 0))
