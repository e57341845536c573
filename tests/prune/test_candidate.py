"""A cut network is repaired in closed form before it is trained, unless the recipe says no."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import prune_graphs
import pytest

from edgekit import keras_io
from edgekit.prune.candidate import Cutter, School
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.signature import predict
from edgekit.prune.recovery.batches import Lesson
from edgekit.prune.recovery.training import RecoverySettings
from edgekit.prune.selection.cost import Macs
from edgekit.prune.thinning.steps import Thinning

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 saves variables through an __array__ without the copy keyword of numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def candidate_error(original: keras.Model, work: Path, refits: bool) -> tuple[float, str]:
    """Cut half without any training; return the mean difference on fresh samples, and what the repair kept."""
    graph = analyze(original)
    lesson = Lesson(prune_graphs.samples(original, 32))
    school = School(original, lesson, None, None, None, RecoverySettings(epochs=0))
    ranking = np.random.default_rng(0).random(graph.unit_count)
    proof = lesson.part(np.arange(2)).inputs
    thinning = Thinning(proof, work, low_rank=False, energy=0.98, sparsity=None, precisions=())
    cutter = Cutter(original, graph, ranking, Macs(), {}, school, proof, thinning, work, refits=refits)
    found = cutter.candidate(0.5, 0, lambda fraction, message: None)
    fresh = prune_graphs.samples(original, 8, seed=9)
    taught, given = predict(original, fresh), predict(keras_io.load(found.file), fresh)
    return float(np.mean([np.abs(taught[name] - given[name]).mean() for name in taught])), found.refit


def test_the_repair_comes_before_training_and_can_be_left_out(tmp_path: Path) -> None:
    original = prune_graphs.build("chain")
    repaired, kept = candidate_error(original, tmp_path / "with", refits=True)
    plain, nothing = candidate_error(original, tmp_path / "without", refits=False)
    assert "least squares" in kept
    assert nothing == ""
    assert repaired < 0.7 * plain
