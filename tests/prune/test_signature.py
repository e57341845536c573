"""What a network that nobody trains answers, with its weights as constants of a graph."""

from __future__ import annotations

from types import ModuleType

import keras
import numpy as np
import prune_graphs
import pytest
import sequence_graphs

from edgekit.prune.keras import signature
from edgekit.prune.keras.signature import fixed_predictor, predictor

GRAPHS = [(module, name) for module in (prune_graphs, sequence_graphs) for name in module.GRAPHS]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), GRAPHS, ids=[name for _, name in GRAPHS])
def test_constant_weights_answer_as_variables_do(module: ModuleType, name: str) -> None:
    model = module.build(name)
    inputs = module.samples(model)
    expected, found = predictor(model)(inputs), fixed_predictor(model)(inputs)
    assert list(found) == list(expected)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output], array, rtol=1e-4, atol=1e-5)


def test_what_is_trained_meanwhile_changes_no_answer() -> None:
    model = prune_graphs.build("chain")
    inputs = prune_graphs.samples(model)
    fixed, live = fixed_predictor(model), predictor(model)
    before = fixed(inputs)["head"]
    _halve(model)
    assert np.abs(live(inputs)["head"] - before).max() > 1e-3
    np.testing.assert_array_equal(fixed(inputs)["head"], before)


def test_a_network_beyond_the_size_of_a_graph_keeps_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    model = prune_graphs.build("chain")
    inputs = prune_graphs.samples(model)
    expected = predictor(model)(inputs)["head"]
    monkeypatch.setattr(signature, "_CONSTANT_AT_MOST", 100)
    found = fixed_predictor(model)
    np.testing.assert_array_equal(found(inputs)["head"], expected)
    _halve(model)
    assert np.abs(found(inputs)["head"] - expected).max() > 1e-3


def _halve(model: keras.Model) -> None:
    for weight in model.trainable_weights:
        weight.assign(weight / 2)
