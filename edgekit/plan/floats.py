"""The steps that make the float graphs of a model: what every other file is quantized from and held against."""

from __future__ import annotations

from typing import Any

from edgekit.plan.data import Data
from edgekit.plan.pruning import PRUNED
from edgekit.recipe import Recipe
from edgekit.steps import CONVERTED_BY, FORMAT_LIBRARIES, KERAS, NOT_MADE, READ_BY, BuildPlan, File, Ref, Step


def variant_of(pruned: bool) -> str:
    """Return how files and steps of the pruned model are called, and of the other."""
    return "pruned" if pruned else "original"


class FloatGraphs:
    """Adds steps to ``result``. ``source``: the format of ``model``; ``quantized``: it is already."""

    def __init__(
        self, recipe: Recipe, data: Data, result: BuildPlan, model: File | Ref, source: str, quantized: bool
    ) -> None:
        self.recipe, self.data, self.result = recipe, data, result
        self.model, self.source, self.quantized = model, source, quantized

    def why_not(self, format: str) -> str:
        """Return why no file of this format is made of the model; "" where one is."""
        converted = (self.source, format) in CONVERTED_BY and not self.quantized
        other, why = NOT_MADE.get(self.source, ("", ""))
        return why if format == other and not converted else ""

    def graph(self, pruned: bool) -> str:
        """Return the step that reads the model, sets its batch to 1 and runs it on a few samples."""
        name = variant_of(pruned)
        samples = self.recipe.convert.parity_samples
        model: Any = Ref("prune", PRUNED[self.source]) if pruned else self.model
        if self.source in READ_BY:
            function, libraries = READ_BY[self.source]
            return self.result.add(Step(
                f"float-{name}", "convert", f"read the {'pruned ' if pruned else ''}.{self.source} model", function,
                {"model": model, "dataset": self.data.calibration(), "samples": samples, "as_is": self.quantized},
                libraries,
            ))  # fmt: skip
        return self.result.add(Step(
            f"float-{name}", "convert", f"float graph of the {name} model", "edgekit.convert.stage:float_model",
            {"model": model, "source": "keras" if pruned else self.source, "dataset": self.data.calibration(),
             "samples": samples, "signature": "" if self.recipe.model.shape else self.recipe.model.signature}, KERAS,
        ))  # fmt: skip

    def has_float16(self, format: str) -> bool:
        """Say whether files of this format are made with float16 weights; of an ONNX graph that is read, none is."""
        return self.source not in READ_BY or format == "tflite"

    def artifact(self, format: str, precision: str, pruned: bool) -> str:
        """Return the step that writes ``model.<format>`` in float32 or float16."""
        graph, name = self.graph(pruned), variant_of(pruned)
        if self.source in READ_BY and precision == "float16":
            wide, given = self.artifact(format, "float32", pruned), self.hand_off(format, pruned)
            return self.result.add(Step(
                f"{format}-float16-{name}", "convert", f"float16 {format} of the {name} model",
                "edgekit.convert.tflite_float16:run",
                {"model": Ref(wide, f"model.{format}"), "reference": Ref(given, "reference.npz"),
                 "inputs": Ref(given, "inputs.npz")}, FORMAT_LIBRARIES[format],
            ))  # fmt: skip
        if self.source == format:
            return graph
        if self.source in READ_BY:
            function, libraries = CONVERTED_BY[self.source, format]
            return self.result.add(Step(
                f"{format}-float32-{name}", "convert", f"float32 {format} of the {name} model", function,
                {"model": Ref(graph, f"model.{self.source}"), "inputs": Ref(graph, "inputs.npz"),
                 "tolerance": self.recipe.convert.parity_tolerance}, libraries,
            ))  # fmt: skip
        return self.result.add(Step(
            f"{format}-{precision}-{name}", "convert", f"{precision} {format} of the {name} model",
            "edgekit.convert.stage:float_artifact",
            {"saved_model": Ref(graph, "saved_model"), "reference": Ref(graph, "reference.npz"),
             "inputs": Ref(graph, "inputs.npz"), "format": format, "precision": precision,
             "tolerance": self.recipe.convert.parity_tolerance},
            (*KERAS, *FORMAT_LIBRARIES[format], "tf2onnx"),
        ))  # fmt: skip

    def hand_off(self, format: str, pruned: bool) -> str:
        """Return the step with the inputs and outputs that files of this format are held against."""
        if (self.source, format) in CONVERTED_BY:  # they take images in a layout of their own
            return self.artifact(format, "float32", pruned)
        return self.graph(pruned)

    def layouts(self, format: str, pruned: bool) -> dict[str, Any]:
        """Return the argument of an emitting step that tells it of inputs in another layout than the source's."""
        if (self.source, format) not in CONVERTED_BY:
            return {}
        return {"layouts": Ref(self.hand_off(format, pruned), "layouts.json")}
