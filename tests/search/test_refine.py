"""Biases and weights fitted to a plan, on a small detector, in both formats and their real runtimes."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import faults
import numpy as np
import numpy.typing as npt
import pytest

from edgekit.quantize.calibrate import ranges
from edgekit.quantize.decide import decide
from edgekit.quantize.equalize.rescale import FILES
from edgekit.quantize.graph import read_graph
from edgekit.quantize.layer_inputs import InputMoments, as_matrix, from_matrix
from edgekit.quantize.plan import Plan
from edgekit.quantize.rounding import nearest
from edgekit.quantize.watch import watch
from edgekit.runtimes import open_model
from edgekit.search.problem import Base
from edgekit.search.refine import SAMPLES, Refiner
from edgekit.search.trial import EMITTERS

Array = npt.NDArray[Any]


@pytest.fixture(params=["tflite", "onnx"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[faults.Fault, Base, Plan, Refiner]:
    """A detector with a layer of many small weights alike, which rounding to the nearest moves all one way."""
    format = request.param
    network = faults.detector()
    kernel, bias = network.nodes[2].weights
    kernel = np.where(np.abs(kernel) < 0.15, 0.0031, kernel).astype(np.float32)
    network.nodes[2] = replace(network.nodes[2], weights=(kernel, bias))
    fault = faults.fault_of("", format, tmp_path, network)
    found = ranges(fault.float_file, format, fault.calibration)
    plan = decide(fault.float_file, format, "int8", ranges=found, samples=len(fault.calibration))
    base = Base("plain", fault.float_file, read_graph(fault.float_file, format), found)
    return fault, base, plan, Refiner(format, EMITTERS[format], lambda: fault.calibration, tmp_path)


def outputs(path: Path, format: str, samples: list[dict[str, Array]]) -> Array:
    """Return (samples, numbers), all outputs side by side."""
    session = open_model(path, format)
    rows = [session.run([sample[spec["name"]] for spec in session.inputs]) for sample in samples]
    return np.stack([np.concatenate([array.ravel() for array in row]) for row in rows])


def errors(fault: faults.Fault, base: Base, plan: Plan, samples: list[dict[str, Array]]) -> Array:
    path = base.model.with_name(f"emitted.{fault.format}")
    path.write_bytes(EMITTERS[fault.format](base.model.read_bytes(), plan))
    return outputs(path, fault.format, samples) - outputs(fault.float_file, fault.format, samples)


@pytest.mark.parametrize("rounding", [False, True])
def test_the_shift_of_the_outputs_goes_and_other_samples_gain(case: Any, rounding: bool) -> None:
    fault, base, plan, refiner = case
    refined = refiner.refine(base, plan, rounding, math.inf)
    seen = fault.calibration[:SAMPLES]
    before, after = errors(fault, base, plan, seen), errors(fault, refined, plan, seen)
    assert abs(after.mean()) < 0.3 * abs(before.mean())
    unseen_before, unseen_after = (errors(fault, of, plan, fault.evaluation) for of in (base, refined))
    assert (unseen_after**2).mean() < 0.9 * (unseen_before**2).mean()


def test_the_emitter_finds_exactly_the_codes_that_were_chosen(case: Any) -> None:
    """A refined weight is on its channel's grid, so rounding it to the nearest changes nothing."""
    fault, base, plan, refiner = case
    refined = refiner.refine(base, plan, True, math.inf)
    before, after = (FILES[fault.format](of.model) for of in (base, refined))
    moved = 0
    for position, op in enumerate(before.graph.ops):
        layer = before.layer(position)
        if layer is None or op.name not in plan.ops("int8"):
            continue
        old, new = (as_matrix(layer, model.array(layer.weight)).astype(np.float64) for model in (before, after))
        assert np.abs(nearest(new) - new).max() < 1e-6 * np.abs(new).max()
        assert np.abs(new).max(axis=-1) == pytest.approx(np.abs(old).max(axis=-1), rel=1e-6)
        moved += int((np.abs(nearest(old) - new) > 1e-4 * np.abs(new).max()).sum())
    assert moved > 100, "roundings were chosen at all"


def test_a_repair_ends_with_its_time(case: Any) -> None:
    _, base, plan, refiner = case
    assert refiner.refine(base, plan, True, time.monotonic()) is None


def test_the_same_repair_twice_writes_the_same_bytes(case: Any) -> None:
    _, base, plan, refiner = case
    first, second = (refiner.refine(base, plan, True, math.inf) for _ in range(2))
    assert first.model.read_bytes() == second.model.read_bytes()
    assert first.model != second.model


def test_rows_times_weights_are_what_the_layer_computes(case: Any) -> None:
    """Mean input rows through the matrix give the mean of the real outputs: strides, padding, groups, layouts."""
    fault, base, _, _ = case
    model = FILES[fault.format](base.model)
    for position, op in enumerate(model.graph.ops):
        layer = model.layer(position)
        if layer is None:
            continue
        weight = model.array(layer.weight)
        assert np.array_equal(from_matrix(layer, as_matrix(layer, weight), weight), weight)
        moments = InputMoments(layer, model.window(position), 4, spread=True)
        sums = []
        watched = watch(fault.float_file.read_bytes(), fault.format, {op.inputs[0], op.outputs[0]})
        for sample in fault.calibration[:4]:
            values = watched(sample)
            moments.add(values[op.inputs[0]])
            channels = np.moveaxis(values[op.outputs[0]], layer.data_axis, -1)
            sums.append(channels.reshape(-1, channels.shape[-1]).mean(axis=0))
        made = np.einsum("gok,gk->go", as_matrix(layer, weight), moments.mean).ravel() + model.array(layer.bias)
        if fault.format == "onnx" or op.outputs[0] in ("boxes", "logits"):  # no ReLU is part of the op
            assert made == pytest.approx(np.mean(sums, axis=0), abs=1e-4)
        assert np.linalg.eigvalsh(moments.covariance).min() > -1e-4
