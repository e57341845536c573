"""Whole families of keras.applications, small inputs, random weights; the others are in benchmarks/families.py."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from benchmarks.families import build
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.signature import input_names, predict
from edgekit.prune.keras.surgery import prune, verify_exact, zeroed
from edgekit.prune.selection.cost import COUNTED
from edgekit.prune.selection.greedy import select

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eagerly")]


@pytest.mark.parametrize("name", ["MobileNetV3Small", "DenseNet121", "ConvNeXtTiny"])
def test_half_of_the_work_goes_and_nothing_else_changes(name: str) -> None:
    keras.utils.clear_session()
    model = build(name, 32, classes=10)
    graph = analyze(model)
    assert len(graph.frozen) == 1  # the classes alone
    order = np.random.default_rng(0).random(graph.unit_count)
    selection = select(graph, order, COUNTED["macs"](), 0.5)
    assert 0.45 < selection.macs_after / selection.macs_before <= 0.5
    pruned = prune(model, graph, selection)
    assert pruned.count_params() == selection.params_after
    inputs = {input_names(model)[0]: np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)}
    # Sums over up to 1024 channels in another order, through 50 to 120 layers; a wrong channel gives over 1e-2.
    assert verify_exact(model, graph, selection, pruned, inputs) <= 1e-5
    whole, without = (next(iter(predict(one, inputs).values())) for one in (model, zeroed(model, graph, selection)))
    assert not np.allclose(whole, without, rtol=1e-2)  # what was cut did matter
