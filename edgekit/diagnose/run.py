"""Diagnose one artifact against its float model: figures per layer, and named causes in order of blame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import tasks
from edgekit.convert.tflite_sparse import dense_file
from edgekit.diagnose import causes, causes_calibration, causes_structure, causes_weights
from edgekit.diagnose.agreement import agreement
from edgekit.diagnose.compare_layers import Comparison, compare, layers_of
from edgekit.diagnose.execute import Runner, Sample, open_runner
from edgekit.diagnose.execution_trial import cure_of_refusal, refusal, refused_parts
from edgekit.diagnose.gates import find_gates
from edgekit.diagnose.labels import Labelled, against_labels
from edgekit.diagnose.layout_trial import try_layouts
from edgekit.diagnose.output_blame import Blame, Prober, measure
from edgekit.diagnose.output_error import Part, errors, parts_of
from edgekit.diagnose.quantized_file import QuantizedFile, read_quantized
from edgekit.diagnose.samples import Samples
from edgekit.diagnose.schema import ClassAgreement, Diagnosis, Finding, Layer, OutputError, WorstSample
from edgekit.diagnose.weight_forms import read_weights
from edgekit.progress import Progress

CAUSES: tuple[causes.Cause, ...] = (
    causes.not_finite,
    causes.swapped_layout,
    causes.mixed_outputs,
    causes_weights.other_weights,
    causes_calibration.calibration,
    causes_calibration.outlier_value,
    causes.hard_swish,
    causes.outlier_channel,
    causes.uneven_channels,
    causes_weights.dead_channels,
    causes_weights.per_tensor_weights,
    causes_weights.uneven_inputs,
    causes_weights.too_few_bits,
    causes_weights.unexplained,
    causes_structure.float_islands,
)
_PROBE_SAMPLES = 6
_WORST_SAMPLES = 10
_WRONG = 0.05  # relative error from which it is worth asking whether the input is read in another order


def run(
    *, out: Path, progress: Progress, float_model: Path, artifact: Path, format: str, dataset: dict[str, Any],
    task: dict[str, Any], samples: int, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Return the fields of ``Diagnosis``. Labels, where there are any, are scored beside it and decide nothing.

    ``dataset``: kind, path, labels, classes, preprocess; ``task``: the recipe's table; ``samples``: at most so many,
    spread evenly over all; ``seconds``: for trying single changes at the outputs, after one pass over the samples.
    Raises RecipeError where the samples do not fit the model, StageError where the float model does not run.
    """
    if format == "tflite":
        float_model, artifact = dense_file(float_model, out), dense_file(artifact, out)
    graph = read_quantized(float_model, format)
    file = read_quantized(artifact, format)
    runner = open_runner(float_model, format)
    data = Samples(dataset, runner, samples, labelled=task["kind"] != "generic")
    _check_outputs(runner, data, task)
    refused = _refusals(artifact, format, file, data[0], runner.inputs, out)
    runs = not any(finding.cause == "does-not-run" for finding in refused)
    progress(0.1, "comparing layer by layer")
    found = compare(
        graph.graph, float_model, file, artifact, format, data, len(data),
        lambda done, text: progress(0.1 + 0.3 * done, text), runs=runs,
    )  # fmt: skip
    parts = parts_of(graph.graph, [spec["name"] for spec in runner.outputs], found.shapes)
    per_sample = [
        max(errors(parts, [right], [got]).values(), default=0.0)
        for right, got in zip(found.reference, found.outputs, strict=runs)
    ]
    chosen = _probe_positions(per_sample or [0.0] * len(data))
    probed, reference = [data[i] for i in chosen], [found.reference[i] for i in chosen]
    outputs = [found.outputs[i] for i in chosen] if runs else []
    error = max(errors(parts, reference, outputs).values(), default=0.0) if runs else 0.0
    layout = try_layouts(runner, probed, outputs, parts, format, error) if error > _WRONG else None
    weights = read_weights(graph.graph, {name: each.values for name, each in graph.constants.items()}, file)
    gates = find_gates(graph.graph)
    prober = Prober(float_model, format, probed, reference, parts)
    deadline = time.monotonic() + seconds
    blame = measure(
        prober, found, weights, gates, format, deadline, lambda done, text: progress(0.4 + 0.6 * done, text)
    )
    classes = data.classes
    labelled = against_labels(found.reference, found.outputs, data.truth, task, classes) if runs else None
    evidence = causes.Evidence(found, format, blame, weights, gates, layout, error if runs else blame.groups["all"])
    return Diagnosis(
        format=format,
        samples=len(data),
        findings=causes.in_order([*refused, *causes.findings_of(evidence, CAUSES)]),
        layers=[_with_blame(layer, blame, found) for layer in layers_of(found)],
        unmatched=found.unmatched,
        outputs=_output_errors(parts, found) if runs else [],
        worst_samples=_worst(data, per_sample, labelled),
        classes=_classes(agreement(found.reference, found.outputs, task, classes) if runs else [], labelled),
        metric=labelled.metric if labelled else "",
        float_value=labelled.values[0] if labelled else None,
        artifact_value=labelled.values[1] if labelled else None,
        probes=blame.probes,
        complete=blame.complete,
    ).model_dump()


def _check_outputs(runner: Runner, data: Samples, task: dict[str, Any]) -> None:
    """Raise RecipeError now, and not after a minute, where the outputs are not what the task reads."""
    outputs = {name: np.asarray(array) for name, array in runner.run(data[0]).items()}
    tasks.load(task["kind"], task.get("adapter")).decode(outputs, {**task, "classes": data.classes})


def _refusals(
    artifact: Path, format: str, file: QuantizedFile, sample: Sample, inputs: list[dict[str, Any]], out: Path
) -> list[Finding]:
    deployed = refusal(artifact, format, sample, inputs, out, as_deployed=True)
    if not deployed:
        return []
    plain = refusal(artifact, format, sample, inputs, out, as_deployed=False)
    words = plain or f"{deployed}; on reference kernels it runs"
    return [
        Finding(
            cause="does-not-run" if plain else "delegate-refuses", harm="fails", blame=1.0,
            where=refused_parts(words, file) or [artifact.name], proof=words,
            cure=cure_of_refusal(words, runs_plainly=not plain),
        )
    ]  # fmt: skip


def _probe_positions(per_sample: Sequence[float]) -> list[int]:
    """Choose half among the worst samples, half evenly over all."""
    count = min(_PROBE_SAMPLES, len(per_sample))
    worst = sorted(range(len(per_sample)), key=lambda i: -per_sample[i])[: count // 2]
    spread = np.linspace(0, len(per_sample) - 1, count).round().astype(int).tolist()
    chosen = list(dict.fromkeys([*worst, *spread]))[:count]
    return sorted(chosen)


def _with_blame(layer: Layer, blame: Blame, found: Comparison) -> Layer:
    tensor, op = blame.tensors.get(layer.tensor), blame.weights.get(layer.tensor)
    position = found.graph.producers.get(layer.tensor)
    if op is None and position is not None:  # an activation that was folded into the op before it
        source = found.graph.ops[position].inputs[0]
        op = blame.weights.get(source) if source not in found.pairs else None
    return layer.model_copy(
        update={
            "output_error": tensor.alone if tensor else None,
            "weights_output_error": op.alone if op else None,
        }
    )


def _output_errors(parts: Sequence[Part], found: Comparison) -> list[OutputError]:
    relative = errors(parts, found.reference, found.outputs)
    return [
        OutputError(
            output=part.label,
            relative_error=_finite(relative[part.label]),
            max_error=_finite(
                max(
                    float(np.abs(part.of(right) - part.of(got)).max(initial=0.0))
                    for right, got in zip(found.reference, found.outputs, strict=True)
                )
            ),
        )
        for part in parts
    ]


def _classes(found: list[ClassAgreement], labelled: Labelled | None) -> list[ClassAgreement]:
    """Add the metric against the labels; a class that the float model never decides for has labels all the same."""
    if labelled is None:
        return found
    known = {each.name: each for each in found}
    for name, (before, after) in labelled.per_class.items():
        each = known.get(name) or ClassAgreement(name=name, count=0, agreement=None)
        known[name] = each.model_copy(update={"float_metric": before, "artifact_metric": after})
    return list(known.values())


def _worst(data: Samples, per_sample: Sequence[float], labelled: Labelled | None) -> list[WorstSample]:
    """Return the samples that suffer most: first those that lost most labels, then by the error at the outputs."""
    lost = labelled.lost if labelled else [0] * len(per_sample)
    order = sorted(range(len(per_sample)), key=lambda i: (-lost[i], -per_sample[i]))[:_WORST_SAMPLES]
    return [
        WorstSample(
            sample=data.name(i), relative_error=_finite(per_sample[i]), lost=lost[i] if labelled else None
        )
        for i in order
    ]  # fmt: skip


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
