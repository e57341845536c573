"""The step that times a model's ops for pruning, and the places it does so for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekit.recipe import Recipe
from edgekit.steps import FORMAT_LIBRARIES, KERAS, ONNX, BuildPlan, File, Ref, Step
from edgekit.target import Target

COSTS = "costs"
_PLACE = ("device", "format", "precision", "threads")
Place = tuple[str, str, str, int]
_TIMED_BY = {"onnx": ("edgekit.prune.latency.of_onnx:run", ONNX)}


def add_costs(plan: BuildPlan, recipe: Recipe, targets: Sequence[Target], model: File | Ref, source: str) -> list[Ref]:
    """Add the step and return what pruning reads of it: nothing where no time is to be cut, or none can be taken."""
    places = list(dict.fromkeys(place for target in targets for place in _places(recipe, target)))
    prune = recipe.prune
    if prune.cost != "latency" or not places:
        return []
    function, libraries = _TIMED_BY.get(source, ("edgekit.prune.latency.of_keras:run", KERAS))
    step = plan.add(Step(
        COSTS, "prune", "time the ops of the model", function,
        {
            "model": model,
            "places": [dict(zip(_PLACE, place, strict=True)) for place in places],
            "largest_cut": max(prune.max_layer_cut, *prune.limits.values(), 0.0),
        },
        (*libraries, *FORMAT_LIBRARIES["tflite"], *FORMAT_LIBRARIES["onnx"]), machine_bound=True, alone=True,
    ))  # fmt: skip
    return [Ref(step, "costs.json")]


def _places(recipe: Recipe, target: Target) -> Iterator[Place]:
    """Yield where a target's files are timed: on its own board by ssh, else on this host where that says something."""
    address = recipe.devices.get(target.name, "")
    device, threads = (address, target.threads) if address.startswith("ssh:") else ("local", recipe.profile.threads)
    for output in target.outputs if target.host_comparable else ():
        int8 = output.precision == "int8" and recipe.quantize.enabled
        if recipe.budget.speedup and recipe.prune.keep_macs == "auto" and int8:  # it counts from the float model
            yield device, output.format, "float32", threads
        yield device, output.format, "int8" if int8 else "float32", threads
