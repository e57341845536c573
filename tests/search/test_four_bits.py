"""4-bit weights where int8 misses the size budget: emitted and run for real, kept only where nothing else is lost."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite_graphs

from edgekit.quantize.decide import decide
from edgekit.quantize.graph import read_graph
from edgekit.quantize.plan import Plan
from edgekit.search.four_bits import halve_weights
from edgekit.search.journal import Journal
from edgekit.search.problem import Base, Problem
from edgekit.search.trial import Trial, Trials


@pytest.fixture
def base(tmp_path: Path) -> Base:
    random = np.random.default_rng(2)
    network = tflite_graphs.Network((1, 64))
    x = network.x
    for number, (inputs, outputs) in enumerate([(64, 128), (128, 128), (128, 8)]):
        weight = random.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
        bias = network.constant(f"b{number}", np.zeros(outputs, np.float32))
        x = network.dense(x, network.constant(f"w{number}", weight), bias, tflite_graphs.NONE)
    path = network.save(tmp_path / "dense.tflite", x)
    return Base("plain", path, read_graph(path, "tflite"), {}, activations="dynamic")


def started(base: Base, folder: Path, largest_bytes: float, slower: float, target: float) -> tuple[Journal, Trials]:
    """Begin a search of real files, whose times are made up: 4 bits take ``slower`` times as long."""
    random = np.random.default_rng(3)
    trials = Trials("tflite", [{"x": random.normal(0, 1, (1, 64)).astype(np.float32)} for _ in range(8)], folder)
    exact = trials.run(base.model, None)

    def run(base: Base, plan: Plan | None, limit: int | None) -> Trial:
        made = trials.run(base.model, plan, limit)
        return replace(made, fastest_ms=slower if plan is not None and plan.ops("int4-dynamic") else 1.0)

    def loss(trial: Trial) -> float:
        pairs = [(a["y0"], b["y0"]) for a, b in zip(exact.outputs, trial.outputs, strict=True)]
        return float(np.mean([np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs]))

    problem = Problem(
        lambda base, exclude, hazards: decide(base.model, "tflite", "int8", activations=base.activations),
        run, loss, [], largest_bytes=largest_bytes,
    )  # fmt: skip
    journal = Journal(problem, target, 60.0, lambda done, text: None)
    journal.attempt("start", base, problem.decide(base, {}, False))
    return journal, trials


@pytest.mark.parametrize(
    ("largest_bytes", "slower", "target", "kept", "note"),
    [
        (1.0, 1.0, 0.5, True, "the size budget asks for it"),
        (math.inf, 1.0, 0.5, False, ""),  # nothing is missed, nothing is tried
        (1.0, 1.5, 0.5, False, "1.50 times the time"),
        (1.0, 1.0, 1e-3, False, "of the agreement lost"),
    ],
)
def test_four_bits_are_for_a_missed_size_alone(
    base: Base, tmp_path: Path, largest_bytes: float, slower: float, target: float, kept: bool, note: str
) -> None:
    journal, trials = started(base, tmp_path, largest_bytes, slower, target)
    before = journal.log[0]
    with trials:
        halve_weights(journal)
    assert bool(journal.kept.plan.ops("int4-dynamic")) is kept
    assert note in " ".join(journal.notes)
    if kept:
        assert journal.log[-1].size_bytes < 0.7 * before.size_bytes
    if math.isinf(largest_bytes):
        assert journal.log == [before]
