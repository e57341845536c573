from __future__ import annotations

import numpy as np
import prune_graphs
import pytest

from edgekit.prune.judging.held import Judge, Split
from edgekit.prune.keras.functional import copy_model
from edgekit.prune.keras.signature import predict


@pytest.mark.parametrize("samples", [12, 13, 100, 5000, 100_000])
def test_held_samples_are_few_and_never_learned_from(samples: int) -> None:
    split = Split.of(samples)
    assert not set(split.train.tolist()) & set(split.held.tolist())
    assert len(split.train) + len(split.held) == samples
    assert 0 < len(split.held) <= min(384, samples / 6 + 1)
    assert split.held[-1] > 0.9 * samples - 7  # from everywhere, not from the beginning


def test_a_dozen_is_needed_to_hold_any() -> None:
    assert len(Split.of(11).held) == 0
    assert len(Split.of(11).train) == 11


@pytest.mark.slow
def test_points_are_the_metric_with_labels_and_agreement_without() -> None:
    network = prune_graphs.build("flatten_dense")
    inputs = prune_graphs.samples(network, 40)
    answers = predict(network, inputs)["classes"].argmax(axis=-1)
    other = copy_model(network)
    kernel, bias = other.layers[-1].weights
    kernel.assign(-np.asarray(kernel))
    bias.assign(-np.asarray(bias))
    task = {"kind": "classification"}
    names = [str(number) for number in range(10)]
    labelled = Judge(network, inputs, answers, names, task, 1.5)
    assert labelled.drop(network) == 0.0
    wrong = float(np.mean(predict(other, inputs)["classes"].argmax(axis=-1) != answers))
    assert wrong > 0.5
    assert labelled.drop(other) == pytest.approx(100 * wrong)
    unlabelled = Judge(network, inputs, None, names, task, 1.5)
    assert unlabelled.drop(network) == 0.0
    assert unlabelled.drop(other) > 20.0
    generous = Judge(network, inputs, None, names, task, 3.0)
    assert generous.drop(other) == pytest.approx(unlabelled.drop(other) / 2)
    assert (labelled.by, unlabelled.by) == ("labels", "agreement")
