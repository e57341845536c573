"""Features of a cut network are held against those of the original at the channels that both have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import prune_graphs
import pytest
from keras import layers as L

from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.signature import Arrays, as_tensors, call
from edgekit.prune.keras.surgery import prune
from edgekit.prune.recovery.batches import Lesson
from edgekit.prune.recovery.features import Hint, Watched, hints_of
from edgekit.prune.recovery.training import RecoverySettings, recover
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import Selection, select

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]  # Keras saves


def residual(blocks: int = 3) -> keras.Model:
    """Residual blocks, whose sums are what hints look at."""
    image = prune_graphs.image()
    x = prune_graphs.conv(image, 32, "stem")
    for number in range(blocks):
        y = prune_graphs.conv(x, 32, f"inner{number}")
        x = L.Add(name=f"sum{number}")([x, L.Conv2D(32, 3, padding="same", name=f"outer{number}")(y)])
    return keras.Model(image, L.Conv2D(4, 1, name="head")(x))


def halved(model: keras.Model) -> tuple[ChannelGraph, Selection]:
    graph = analyze(model)
    ranking = np.random.default_rng(0).random(graph.unit_count)
    return graph, select(graph, ranking, Macs(), 0.5, min_channels=8)


def watched(student: keras.Model, teacher: keras.Model, hints: Sequence[Hint], inputs: Arrays) -> tuple[Any, Any]:
    pair = Watched(student, teacher, hints, inputs)
    return pair(as_tensors(inputs), as_tensors(pair.ask(inputs)))


def test_the_sums_of_a_residual_network_are_compared_at_the_channels_that_stay() -> None:
    model = residual()
    graph, selection = halved(model)
    hints = hints_of(graph, selection)
    assert [hint.layer for hint in hints] == ["sum0", "sum1", "sum2"]
    left = prune(model, graph, selection).get_layer("sum1").output.shape[-1]
    assert hints[1].kept.sum() == left < 32


def test_a_chain_is_compared_where_its_size_changes_and_a_deep_network_at_eight_places() -> None:
    model = prune_graphs.build("chain")
    graph, selection = halved(model)
    assert [hint.layer for hint in hints_of(graph, selection)] == ["two_relu"]
    deep = residual(12)
    graph, selection = halved(deep)
    hints = [hint.layer for hint in hints_of(graph, selection)]
    assert len(hints) == 8
    assert (hints[0], hints[-1]) == ("sum0", "sum11")


def test_nested_and_shared_layers_are_left_out() -> None:
    for name in ("nested", "shared_in_series"):
        model = prune_graphs.build(name)
        graph, selection = halved(model)
        runs = [each.layer for each in graph.calls]
        for hint in hints_of(graph, selection):
            assert "/" not in hint.layer
            assert runs.count(hint.layer) == 1


def test_the_original_is_at_distance_0_of_itself_and_a_cut_one_is_not() -> None:
    model = residual()
    graph, selection = halved(model)
    inputs = prune_graphs.samples(model, 8)
    everything = tuple(Hint(hint.layer, np.ones(32, bool)) for hint in hints_of(graph, selection))
    for norm in model.layers:  # in training it normalizes by the batch: by nothing else is it another network
        norm.trainable = False
    outputs, distance = watched(model, model, everything, inputs)
    assert float(distance) < 1e-9  # the teacher's batch norms are folded into its convolutions
    np.testing.assert_array_equal(outputs["head"], call(model, as_tensors(inputs))["head"])
    cut = prune(model, graph, selection)
    outputs, distance = watched(cut, model, hints_of(graph, selection), inputs)
    assert outputs.keys() == {"head"}
    assert 0.0 < float(distance) < 100.0


def test_without_hints_there_is_no_distance() -> None:
    model = residual(1)
    inputs = prune_graphs.samples(model, 2)
    _, distance = watched(model, model, (), inputs)
    assert float(distance) == 0.0


def test_training_on_features_brings_them_closer() -> None:
    model = residual()
    graph, selection = halved(model)
    hints, inputs = hints_of(graph, selection), prune_graphs.samples(model, 64)

    def trained(weight: float) -> float:
        cut = prune(model, graph, selection)
        settings = RecoverySettings(epochs=6, learning_rate=3e-3, mixed_share=0.0, feature_weight=weight)
        recover(cut, model, Lesson(inputs), None, settings, _silent, hints=hints)
        return float(watched(cut, model, hints, inputs)[1])

    assert trained(5.0) < 0.8 * trained(0.0)


def _silent(*_: Any) -> None:
    pass
