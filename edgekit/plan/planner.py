"""The whole plan: which steps each target needs, and its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from edgekit.errors import RecipeError
from edgekit.finetune.samples import LEAST
from edgekit.plan.data import Data, given_shape
from edgekit.plan.floats import FloatGraphs, variant_of
from edgekit.plan.pruning import PRUNE, PRUNED, Pruning
from edgekit.recipe import Recipe
from edgekit.steps import FORMAT_LIBRARIES, KERAS, BuildPlan, Group, Ref, Refusal, Row, Step
from edgekit.target import Output, Target
from edgekit.tasks import AGREEMENT_OF_A_POINT

LIKENESS = "likeness"
Refused = Mapping[tuple[str, str], str]  # by target and format


def plan(
    recipe: Recipe, targets: list[Target], source_format: str, metadata: dict[str, Any], quantized: bool = False,
    refused: Refused | None = None,
) -> BuildPlan:  # fmt: skip
    """Return the plan of one build; a model that is ``quantized`` already is scored and timed as it is.

    ``refused``: why a target's runtime cannot run a format of it, where that is known already.
    """
    source = "onnx" if source_format == "pt2" else source_format  # it becomes one before anything else
    return _Planner(recipe, source, metadata, quantized, refused or {}).plan(targets)


class _Planner:
    def __init__(
        self, recipe: Recipe, source_format: str, metadata: dict[str, Any], quantized: bool, refused: Refused
    ) -> None:
        self.recipe = recipe
        self.refused = refused
        self.source = source_format
        self.quantized = quantized
        self.metadata = metadata
        self.result = BuildPlan()
        self.prunes = recipe.prune.enabled and source_format in PRUNED and not quantized
        self.data = Data(recipe)
        self.model = given_shape(recipe, source_format, self.result)
        self.floats = FloatGraphs(recipe, self.data, self.result, self.model, source_format, quantized)
        self.pruning = Pruning(recipe, self.data, self.result, self.model, source_format)

    def plan(self, targets: list[Target]) -> BuildPlan:
        if self.recipe.prune.enabled and self.source not in PRUNED:
            self.result.notes.append(
                f"A .{self.source} model is quantized and converted only: pruning needs a Keras or ONNX graph to cut."
            )
        if self.prunes:
            self.pruning.add_training(targets)
        if self.quantized:
            self.result.notes.append("The model is quantized already: it is scored and timed as it is.")
        if self.recipe.quantize.finetune and not self.quantized:
            self._finetune_steps(targets)
        for target in targets:
            formats = dict.fromkeys(output.format for output in target.outputs)
            unmade = {format: why for format in formats if (why := self._why_not(target, format))}
            for why in unmade.values():
                if len(unmade) < len(formats):
                    self.result.notes.append(f"{target.name}: {why}")
                else:
                    self.result.refusals.append(Refusal(target, why))
            for format in formats:
                if format not in unmade:
                    self._group(target, format)
        self._likeness_step()
        self._latency_steps()
        if self.prunes:
            self._curve_steps()
            self._prune_what_converts()
        for group in self.result.groups:
            if group.device:
                self._device_step(group.device, group, self.recipe.devices[group.target.name])
        self.result.run_first(self.recipe.model.custom)
        return self.result

    def _why_not(self, target: Target, format: str) -> str:
        return self.refused.get((target.name, format), "") or self.floats.why_not(format)

    def _prune_what_converts(self) -> None:
        """Convert the unpruned model first: a network that goes nowhere is not worth hours of training."""
        steps, formats = self.result.steps, dict.fromkeys(group.format for group in self.result.groups)
        if formats:
            converted = tuple(self.floats.artifact(format, "float32", False) for format in formats)
            steps[PRUNE] = replace(steps[PRUNE], after=converted)

    def _group(self, target: Target, format: str) -> None:
        outputs = [output for output in target.outputs if output.format == format]
        rows = [self._row(format, "float32", "", pruned=False)]
        if self.prunes:
            rows.append(self._row(format, "float32", "", pruned=True))
        for output in outputs:
            skipped = output.precision.startswith("int8") and not self.recipe.quantize.enabled
            unmade = self.quantized or (output.precision == "float16" and not self.floats.has_float16(format))
            if output.precision == "float32" or skipped or unmade:
                continue
            if output.precision != "float16" or not self.prunes:
                rows.append(self._row(format, output.precision, output.scheme, pruned=False))
            if self.prunes:
                rows.append(self._row(format, output.precision, output.scheme, pruned=True))
        timed = target.host_comparable
        latency = f"latency-{format}" if timed else None
        device = f"device-{target.name}-{format}" if target.name in self.recipe.devices else None
        self.result.groups.append(Group(target, format, tuple(rows), latency, outputs[0], device))

    def _row(self, format: str, precision: str, scheme: str, *, pruned: bool) -> Row:
        emit = self._emit_step(format, precision, scheme, pruned)
        baseline = None
        if pruned or precision != "float32":
            baseline = self._score_step(self._emit_step(format, "float32", "", False), format, None)
        score = self._score_step(emit, format, baseline)
        steps = (("prune",) if pruned else ()) + ((_STEP_OF[precision],) if precision != "float32" else ())
        name = ("pruned-" if pruned else "") + precision
        if self.quantized:  # the only row, and the baseline: nothing was done to it
            name = precision = "int8"
        return Row(name, steps, format, precision, emit, score, pruned)

    def _emit_step(self, format: str, precision: str, scheme: str, pruned: bool) -> str:
        graph = self.floats.hand_off(format, pruned)
        quantized = precision.startswith("int8")
        model = self.floats.artifact(format, "float32" if quantized else precision, pruned)
        name = _file_name(format, precision, scheme, pruned)
        plan_ref = None
        source = Ref(model, f"model.{format}")
        if quantized:
            planned = self._quantize_step(name, model, format, precision, scheme, pruned)
            plan_ref = Ref(planned, "plan.json")
            if self.result.steps[planned].function in (_SEARCH, _CHOOSE):  # it may have repaired the float model
                source = Ref(planned, f"model.{format}")
        return self.result.add(Step(
            f"emit-{name}", "convert", f"{name} file", "edgekit.convert.finish:run",
            {"model": source, "format": format, "precision": precision, "plan": plan_ref,
             "reference": Ref(graph, "reference.npz"), "inputs": Ref(graph, "inputs.npz"),
             "metadata": self.metadata} | self.floats.layouts(format, pruned) | self.pruning.storing(format, pruned),
            FORMAT_LIBRARIES[format],
        ))  # fmt: skip

    def _quantize_step(self, name: str, model: str, format: str, precision: str, scheme: str, pruned: bool) -> str:
        settings = self.recipe.quantize
        if precision == "int8" and settings.search:
            first = self._search_step(name, model, format, scheme)
            return self._choose_step(name, first, pruned) if settings.finetune else first.id
        return self.result.add(Step(
            f"plan-{name}", "quantize", f"calibrate {name}", "edgekit.quantize.stage:run",
            self._calibrating(model, format, precision, scheme), FORMAT_LIBRARIES[format],
        ))  # fmt: skip

    def _calibrating(self, model: str, format: str, precision: str, scheme: str) -> dict[str, Any]:
        return {
            "model": Ref(model, f"model.{format}"), "format": format, "precision": precision, "scheme": scheme,
            "dataset": self.data.calibration(), "samples": self.recipe.quantize.calibration_samples,
        }  # fmt: skip

    def _search_step(self, name: str, model: str, format: str, scheme: str) -> Step:
        settings = self.recipe.quantize
        aim = {
            "task": self.data.task(), "target_loss": self._target_loss(), "seconds": settings.search_seconds,
            "largest_mb": self.recipe.budget.model_mb,
        }  # fmt: skip
        step = Step(
            f"search-{name}" if settings.finetune else f"plan-{name}", "quantize", f"calibrate and search {name}",
            _SEARCH, self._calibrating(model, format, "int8", scheme) | aim, FORMAT_LIBRARIES[format],
            preliminary=settings.finetune, resumable=True,
        )  # fmt: skip
        self.result.add(step)
        return step

    def _choose_step(self, name: str, first: Step, pruned: bool) -> str:
        format = first.arguments["format"]
        return self.result.add(Step(
            f"plan-{name}", "finetune", f"choose for {name}", _CHOOSE,
            first.arguments | {
                "searched": {file: Ref(first.id, file) for file in ("plan.json", "result.json", f"model.{format}")},
                "student": Ref(f"finetune-{variant_of(pruned)}", "student"),
                "tolerance": self.recipe.convert.parity_tolerance,
            },
            (*KERAS, *FORMAT_LIBRARIES[format], "tf2onnx"),
        ))  # fmt: skip

    def _finetune_steps(self, targets: list[Target]) -> None:
        """Add the searches of all targets, and after them one fine-tuning for each model."""
        settings = self.recipe.quantize
        wanted = [(o.format, o.scheme) for target in targets for o in target.outputs if o.precision == "int8"]
        for pruned in (False, True) if self.prunes else (False,):
            searches = []
            for format, scheme in dict.fromkeys(wanted):
                name = _file_name(format, "int8", scheme, pruned)
                first = self._search_step(name, self.floats.artifact(format, "float32", pruned), format, scheme)
                searches.append({file: Ref(first.id, file) for file in ("plan.json", "result.json")})
            if not searches:
                return
            model: Any = Ref("prune", "pruned.keras") if pruned else self.model
            self.result.add(Step(
                f"finetune-{variant_of(pruned)}", "finetune", f"fine-tune the {variant_of(pruned)} model if needed",
                "edgekit.finetune.stage:run",
                {"model": model, "searches": searches, "dataset": self.data.calibration(),
                 "samples": settings.calibration_samples, "parity_samples": self.recipe.convert.parity_samples,
                 "settings": {"epochs": settings.finetune_epochs, "learning_rate": settings.finetune_learning_rate,
                              "seed": settings.seed}},
                KERAS, tolerant=True, machine_bound=True,
            ))  # fmt: skip

    def _likeness_step(self) -> None:
        """Hold calibration against test samples, if ranges are calibrated at all; test labels are not handed over."""
        calibrated = [row.format for group in self.result.groups for row in group.rows if row.precision == "int8"]
        if not calibrated or self.quantized:
            return
        format = calibrated[0]
        self.result.add(Step(
            LIKENESS, "quantize", "calibration against test samples", "edgekit.quantize.likeness:run",
            {"model": Ref(self.floats.artifact(format, "float32", False), f"model.{format}"), "format": format,
             "calibration": self.data.calibration(), "samples": self.recipe.quantize.calibration_samples,
             "test": self.data.of(self.recipe.data.test, None)},
            FORMAT_LIBRARIES[format],
        ))  # fmt: skip

    def _target_loss(self) -> float:
        """Return the loss of agreement with the float model at which a search may stop."""
        budget = self.recipe.budget.accuracy_drop
        allowed = AGREEMENT_OF_A_POINT[self.recipe.task.kind] * budget / 100 if budget else _LARGEST_LOSS
        if self.recipe.task.kind == "generic":  # agreement is the figure itself: as much may go as the user allows
            return allowed
        return min(_LARGEST_LOSS, allowed)

    def _score_step(self, emit: str, format: str, baseline: str | None) -> str:
        profile = self.recipe.profile
        return self.result.add(Step(
            f"score-{emit}", "profile", f"accuracy of {emit.removeprefix('emit-')}",
            "edgekit.profile.accuracy:run",
            {"artifact": Ref(emit, f"model.{format}"), "format": format,
             "dataset": self.data.test(), "task": self.data.task(),
             "baseline": Ref(baseline, "predictions.npz") if baseline else None,
             "resamples": profile.bootstrap, "seed": profile.seed},
            (*FORMAT_LIBRARIES[format], "faster-coco-eval"),
        ))  # fmt: skip

    def _latency_steps(self) -> None:
        for format in ("tflite", "onnx"):
            rows = {row.emit: row for g in self.result.groups if g.latency == f"latency-{format}" for row in g.rows}
            if not rows:
                continue
            self.result.add(Step(
                f"latency-{format}", "profile", f"latency of {len(rows)} {format} files",
                "edgekit.profile.stage:latency",
                self._timing(rows.values(), format, self.recipe.profile.threads, "local"),
                FORMAT_LIBRARIES[format], tolerant=True, machine_bound=True, alone=True,
            ))  # fmt: skip

    def _curve_steps(self) -> None:
        """Measure what pruning made and its control, as float files of the first format that is timed here."""
        timed = next((group for group in self.result.groups if group.latency), None)
        if timed is None or not self.pruning.has_curve:
            return
        first = timed.rows[0]
        timing = self._timing((), timed.format, self.recipe.profile.threads, "local")
        self.pruning.add_curve(first, self.floats.graph(False), timing)

    def _device_step(self, name: str, group: Group, address: str) -> None:
        device = _in_runtime(address, group.primary)
        here = device.startswith(_HERE)
        timing = self._timing(group.rows, group.format, group.target.threads, device)
        self.result.add(Step(
            name, "profile", f"{len(group.rows)} {group.format} files on {address}", "edgekit.profile.stage:on_device",
            timing | {"lock_clocks": self.recipe.profile.lock_clocks and not here}, FORMAT_LIBRARIES[group.format],
            tolerant=True, device=device, alone=here,
        ))  # fmt: skip

    def _timing(self, rows: Iterable[Row], format: str, threads: int, device: str) -> dict[str, Any]:
        profile = self.recipe.profile
        jobs = [
            {"name": row.emit, "format": format, "path": Ref(row.emit, f"model.{format}"),
             "expected": Ref(row.emit, "expected.npz"), "scored": Ref(row.score, "predictions.npz")}
            for row in rows
        ]  # fmt: skip
        return {
            "jobs": jobs, "inputs": Ref(self.floats.hand_off(format, False), "first.npz"), "threads": threads,
            "device": device,
            "settings": {"samples": profile.min_samples, "seconds": profile.min_seconds,
                         "limit_s": profile.max_seconds, "seed": profile.seed},
        }  # fmt: skip


def check_finetuning(recipe: Recipe, source_format: str, calibration_samples: int) -> None:
    """Raise RecipeError where the recipe wants fine-tuning, and the model or the samples do not allow it."""
    if not recipe.quantize.finetune:
        return
    if source_format not in ("keras", "h5"):
        raise RecipeError(
            f"[quantize] finetune = true, but {recipe.model.path.name} is no Keras model: training needs its layers.",
            "Give the .keras model it was made from, or set finetune = false.",
        )
    if calibration_samples < LEAST:
        raise RecipeError(
            f"[quantize] finetune = true needs at least {LEAST} samples in data.calibration; there are "
            f"{calibration_samples}.",
            "Add unlabelled samples, hundreds rather than dozens, or set finetune = false.",
        )


def _file_name(format: str, precision: str, scheme: str, pruned: bool) -> str:
    return "-".join(filter(None, (format, precision, scheme, variant_of(pruned))))


def _in_runtime(address: str, output: Output) -> str:
    """Return the address with the runtime that counts there, where a device could also use another."""
    if output.runtime != "TensorRT" or "runtime=" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}runtime=tensorrt"


_HERE = ("local", "browser")  # devices that this host computes for
_SEARCH = "edgekit.search.stage:run"
_CHOOSE = "edgekit.finetune.stage:choose"
_LARGEST_LOSS = 0.02
_STEP_OF = {"float16": "float16", "int8": "quantize", "int8-weights": "quantize"}
