"""The steps of pruning: the pruned network, its control, and the curve both are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.errors import RecipeError
from edgekit.plan.costs import add_costs
from edgekit.plan.data import Data
from edgekit.recipe import Recipe
from edgekit.steps import FORMAT_LIBRARIES, KERAS, ONNX, BuildPlan, File, Ref, Row, Step
from edgekit.target import Target
from edgekit.tasks import AGREEMENT_OF_A_POINT

PRUNE, CURVE = "prune", "curve"
PRUNED = {"keras": "pruned.keras", "h5": "pruned.keras", "onnx": "pruned.onnx"}  # what it is made of each source
_FOR_TRAINING = ("teacher", "student", "checkpoint", "low_rank", "sparsity")
_IMPORTANCE = {  # of ONNX: True; the first is "auto"
    False: ("taylor", "measured", "l2", "bn", "random"),
    True: ("reconstruction", "l2", "random"),
}
_NOT_SETTINGS = {"enabled", "control", "controls", "teacher", "student", "checkpoint"}


class Pruning:
    """Adds steps to ``result``. One pruned network serves all targets; ``model``: what it is cut from."""

    def __init__(self, recipe: Recipe, data: Data, result: BuildPlan, model: File | Ref, source: str) -> None:
        self.recipe, self.data, self.result, self.model = recipe, data, result, model
        self.source = source
        self.labelled = recipe.data.train is not None

    @property
    def onnx(self) -> bool:
        """Say whether the model is cut on its ONNX graph, where nothing can be trained."""
        return self.source == "onnx"

    @property
    def has_control(self) -> bool:
        """Say whether the unpruned model is trained too: only labels could teach it anything new.

        A search of the amount needs it: it is what amounts are held against.
        """
        table = self.recipe.prune
        wanted = table.control or table.searches
        return wanted and self.labelled and table.epochs > 0 and not table.checkpoint and not self.onnx

    @property
    def has_curve(self) -> bool:
        """Say whether there is more to show than before and after."""
        table = self.recipe.prune
        if self.onnx:
            return False
        return self.has_control or table.searches or table.seeds > 1 or table.checkpoint is not None

    def add_training(self, targets: Sequence[Target]) -> None:
        table = self.recipe.prune
        if self.onnx:
            self._add_repair(targets)
            return
        if table.checkpoint:
            self.result.add(Step(
                PRUNE, "prune", f"take the pruned network of {table.checkpoint.name}", "edgekit.prune.checkpointed:run",
                {"model": self.model, "checkpoint": File(table.checkpoint)}, KERAS,
            ))  # fmt: skip
            return
        priced = not table.student and table.keep_macs != 1
        student = {
            "student": File(table.student) if table.student else None,
            "costs": add_costs(self.result, self.recipe, targets, self.model, self.source) if priced else [],
            "precisions": ["float32", "int8"] if self.recipe.quantize.enabled else ["float32"],
        }
        self.result.add(Step(
            PRUNE, "prune", "prune and recover", "edgekit.prune.stage:run", self._learning() | student, KERAS,
            machine_bound=True, resumable=True, parallel=True,
        ))  # fmt: skip

    def _add_repair(self, targets: Sequence[Target]) -> None:
        """Add the cut of an ONNX network, which nothing can train: what is left is repaired in closed form."""
        table = self.recipe.prune
        wrong = next((name for name in _FOR_TRAINING if getattr(table, name)), None)
        if wrong:
            raise RecipeError(
                f"prune.{wrong} needs a Keras model: an ONNX network is cut and repaired without training.",
                f"Leave prune.{wrong} out, or give the Keras model it was exported from.",
            )
        learning = self._learning()
        self.result.add(Step(
            PRUNE, "prune", "prune and repair", "edgekit.prune.onnx.stage:run",
            {name: learning[name] for name in ("model", "dataset", "labelled", "task", "aim")}
            | {"costs": add_costs(self.result, self.recipe, targets, self.model, self.source),
               "settings": {name: learning["settings"][name] for name in _OF_A_CUT}}, ONNX, machine_bound=True,
        ))  # fmt: skip

    def add_curve(self, unpruned: Row, graph: str, timing: dict[str, Any]) -> None:
        """Add conversion, scores and times of all networks; ``graph``: the step with the inputs of the float graph."""
        profile, format = self.recipe.profile, unpruned.format
        self.result.add(Step(
            "curve-files", "convert", f"{format} files of the curve", "edgekit.convert.networks:run",
            {"networks": Ref(PRUNE, "curve"), "inputs": Ref(graph, "inputs.npz"), "format": format,
             "tolerance": self.recipe.convert.parity_tolerance},
            (*KERAS, *FORMAT_LIBRARIES[format], "tf2onnx"),
        ))  # fmt: skip
        self.result.add(Step(
            CURVE, "profile", "accuracy and latency of the curve", "edgekit.profile.curve:run",
            {"files": Ref("curve-files", "files"), "unpruned": Ref(unpruned.emit, f"model.{format}"),
             "predictions": Ref(unpruned.score, "predictions.npz"), "format": format, "inputs": timing["inputs"],
             "dataset": self.data.test(), "task": self.data.task(), "resamples": profile.bootstrap,
             "seed": profile.seed, "threads": profile.threads, "settings": timing["settings"]},
            (*FORMAT_LIBRARIES[format], "faster-coco-eval"), machine_bound=True, alone=True,
        ))  # fmt: skip

    def storing(self, format: str, pruned: bool) -> dict[str, Any]:
        """Return how a file is stored where weights become zero: nothing for a recipe without sparsity."""
        if not (self.recipe.prune.enabled and self.recipe.prune.sparsity):
            return {}
        return {"gz": True, "sparse": pruned and format == "tflite"}

    def _learning(self) -> dict[str, Any]:
        task, table = self.recipe.task, self.recipe.prune
        learns = task.adapter and self.labelled and task.kind != "custom"
        return {
            "model": self.model,
            "dataset": self.data.train(),
            "labelled": self.labelled,
            "others": self.data.unlabelled(),
            "task": self.data.task(),
            "adapter": File(task.adapter) if learns and task.adapter else None,
            "teacher": File(table.teacher) if table.teacher else None,
            "settings": table.model_dump(mode="json", exclude=_NOT_SETTINGS)
            | {
                "controls": (table.controls or table.seeds) if self.has_control else 0,
                "importance": self._importance(),
                "moved_share": table.steps_moved,
                "refit": self._repaired_in_closed_form(),
            },
            "aim": self._aim(),
        }

    def _importance(self) -> str:
        """Return how channels are ranked. Raises RecipeError for a way that this kind of model does not have."""
        known, wanted = _IMPORTANCE[self.onnx], self.recipe.prune.importance
        if wanted != "auto" and wanted not in known:
            kind, reason = ("an ONNX", "needs gradients or batch norms") if self.onnx else ("a Keras", "is for ONNX")
            raise RecipeError(
                f'prune.importance = "{wanted}" {reason}; {kind} model is ranked by {", ".join(known)}.',
                'Leave it out, which is "auto".',
            )
        return known[0] if wanted == "auto" else wanted

    def _repaired_in_closed_form(self) -> bool:
        """Say whether layers are solved for after the cut: what is trained afterwards comes out better without."""
        wanted, trained = self.recipe.prune.refit, self.recipe.prune.epochs > 0 and not self.onnx
        return not trained if wanted == "auto" else wanted

    def _aim(self) -> dict[str, Any]:
        """Return what an amount is searched for by; where the amount is given, budgets change nothing here."""
        budget, slack = self.recipe.budget, AGREEMENT_OF_A_POINT[self.recipe.task.kind]
        if self.recipe.prune.keep_macs != "auto":
            return {"accuracy_drop": None, "speedup": None, "latency_ms": None, "slack": slack}
        return {
            "accuracy_drop": budget.accuracy_drop or _ALLOWED_POINTS, "speedup": budget.speedup,
            "latency_ms": budget.latency_ms, "slack": slack,
        }  # fmt: skip


_OF_A_CUT = (
    "keep_macs", "minutes", "importance", "cost", "round_to", "min_channels", "max_layer_cut", "limits", "protect",
    "refit", "seed",
)  # fmt: skip
_ALLOWED_POINTS = 1.0  # where the recipe sets no accuracy budget
