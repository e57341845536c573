"""The recipe's model, data and task as arguments of steps: files are known by their content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.recipe import Recipe
from edgekit.steps import BOUND_BY, BOUND_FILES, PYTORCH_STEP, SHAPE, BuildPlan, File, Ref, Step


def given_shape(recipe: Recipe, source: str, plan: BuildPlan) -> File | Ref:
    """Return what every step starts from: the user's file, or the same with the sizes that the recipe gives it."""
    table = recipe.model
    model: File | Ref = File(table.path)
    if table.path.suffix.lower() == ".pt2":
        plan.add(Step("pytorch", "convert", "PyTorch to ONNX", PYTORCH_STEP[0], {"model": model}, PYTORCH_STEP[1]))
        model = Ref("pytorch", "model.onnx")
    if not table.shape:
        return model
    function, libraries = BOUND_BY[source]
    shapes = {name: list(shape) for name, shape in table.shape.items()}
    signature = {"signature": table.signature} if source == "saved_model" else {}
    arguments = {"model": model, "shapes": shapes, **signature}
    plan.add(Step(SHAPE, "convert", "give the model its shape", function, arguments, libraries))
    return Ref(SHAPE, BOUND_FILES.get(source, "model.keras"))


class Data:
    """What steps are given to read."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._preprocess = recipe.preprocess.model_dump(mode="json")

    def of(self, path: Path, labels: Path | None) -> dict[str, Any]:
        """Return samples at ``path`` as the argument ``dataset`` of a step."""
        return {
            "kind": self._recipe.data.kind,
            "path": File(path),
            "labels": File(labels) if labels else None,
            "classes": list(self._recipe.task.classes),
            "preprocess": self._preprocess,
        }

    def calibration(self) -> dict[str, Any]:
        return self.of(self._recipe.data.calibration, None)

    def test(self) -> dict[str, Any]:
        return self.of(self._recipe.data.test, self._recipe.data.test_labels)

    def train(self) -> dict[str, Any]:
        """Return what training learns from: the labelled samples, else those of calibration."""
        data = self._recipe.data
        return self.of(data.train, data.train_labels) if data.train else self.calibration()

    def unlabelled(self) -> dict[str, Any] | None:
        """Return what more there is to distil on."""
        more = self._recipe.data.unlabelled
        return self.of(more, None) if more else None

    def task(self) -> dict[str, Any]:
        task = self._recipe.task
        table = task.model_dump(mode="json", exclude={"adapter", "classes"})
        return table | ({"adapter": File(task.adapter)} if task.kind == "custom" and task.adapter else {})
