"""One stage of a build alone: the steps it needs, and the files that are its products."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import pipeline, pruning_record
from edgekit.build import Prepared, learned
from edgekit.build_folder import BuildFolder
from edgekit.errors import RecipeError
from edgekit.report.schema import PruneSummary
from edgekit.store import Store


@dataclass(frozen=True)
class Products:
    """The files that were written, what to know of them, and what pruning came to."""

    files: list[Path]
    notes: list[str]
    pruned: PruneSummary | None = None


@dataclass(frozen=True)
class _Product:
    functions: tuple[str, ...]
    files: tuple[str, ...]


_PRUNING = ("edgekit.prune.stage:run", "edgekit.prune.onnx.stage:run", "edgekit.prune.checkpointed:run")
_PRODUCTS = {
    "prune": _Product(_PRUNING, ()),
    "quantize": _Product(
        ("edgekit.quantize.stage:run", "edgekit.search.stage:run", "edgekit.finetune.stage:choose"), ("plan.json",)
    ),
    "convert": _Product(("edgekit.convert.finish:run",), ("model.tflite", "model.onnx")),
}


def up_to(prepared: Prepared, stage: str) -> Prepared:
    """Return the same build, cut down to the steps of one stage and what they need."""
    needed: set[str] = set()
    for step in reversed(prepared.plan.steps.values()):
        if step.function in _PRODUCTS[stage].functions or step.id in needed:
            needed.add(step.id)
            needed |= pipeline.needs(step)
    left = {
        name: replace(step, after=tuple(other for other in step.after if other in needed))
        for name, step in prepared.plan.steps.items()
        if name in needed
    }
    if not left:
        raise RecipeError(f"This recipe has nothing to {stage}.", " ".join(prepared.plan.notes))
    return replace(prepared, plan=replace(prepared.plan, steps=left, groups=[]))


def run(prepared: Prepared, folder: Path, observer: pipeline.Observer, stage: str, jobs: int) -> Products:
    """Run what ``up_to`` left and copy the stage's files to ``folder/<stage>``. Raises the first step's error."""
    outcome = pipeline.run(prepared.plan, Store(folder / "store"), observer, jobs)
    for error in outcome.errors.values():
        raise error
    notes = learned(prepared.plan, outcome)
    written = []
    product = _PRODUCTS[stage]
    with BuildFolder(folder) as place:
        if stage == "prune":
            files = pruning_record.write_checkpoint(outcome, prepared.recipe.model.path, place)
            return Products(files, notes, pruning_record.summary(outcome))
        for name, entry in outcome.entries.items():
            step = prepared.plan.steps[name]
            if step.function not in product.functions or step.preliminary:
                continue
            for file in product.files:
                if entry.path(file).is_file():
                    label = name.removeprefix("emit-").removeprefix("plan-")
                    written.append(place.write(f"{stage}/{label}{Path(file).suffix}", entry.path(file).read_bytes()))
    return Products(written, notes)
