"""Equalization never changes what a network computes, and takes back what uneven channels cost int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphs
import pytest
from equalizing import (
    CHAIN,
    FORMATS,
    WRITERS,
    assert_same,
    distorted,
    equalized,
    healthy,
    int8_error,
    onnx,
    run,
    samples,
)
from onnx import helper
from tflite_graphs import NONE, RELU6, Network

from edgekit.quantize.calibrate import observe
from edgekit.quantize.equalize.rescale import channel_factors, unevenness


@pytest.mark.parametrize("format", FORMATS)
def test_uneven_channels_cost_int8_nothing_any_more(format: str, tmp_path: Path) -> None:
    good = WRITERS[format](healthy(), tmp_path / f"good.{format}")
    bad = WRITERS[format](distorted(healthy()), tmp_path / f"bad.{format}")
    assert_same(good, bad, format)
    reference = run(good, format)
    level = int8_error(good, format, reference)
    assert int8_error(bad, format, reference) > 3 * level
    repaired, done = equalized(bad, format)
    assert_same(bad, repaired, format)
    assert int8_error(repaired, format, reference) < 1.5 * level
    assert len(done) == len(CHAIN)
    assert all(one.uneven_after < one.uneven_before for one in done)


@pytest.mark.parametrize("format", FORMATS)
def test_a_healthy_network_stays_healthy(format: str, tmp_path: Path) -> None:
    before, after = 0.0, 0.0
    for seed in range(4):
        good = WRITERS[format](healthy(seed), tmp_path / f"good.{format}")
        reference = run(good, format)
        found, done = equalized(good, format)
        assert_same(good, found, format)
        assert [one.channels for one in done] == [8, 8, 12, 6, 10, 12]
        before += int8_error(good, format, reference)
        after += int8_error(found, format, reference)
    # Of one network the error moves by a quarter either way, which is chance: 24 samples and 4 outputs.
    assert after < 1.15 * before


def test_what_was_equalized_is_said(tmp_path: Path) -> None:
    path = onnx(distorted(healthy()), tmp_path / "bad.onnx")
    before = observe(path, "onnx", samples("onnx"))
    found, done = equalized(path, "onnx")
    assert [(one.tensor, one.producer, one.consumer) for one in done] == [
        *[("r1", "c1", "c2"), ("r2", "c2", "c3"), ("r3", "c3", "c4"), ("r4", "c4", "g1")],
        *[("r5", "g1", "a2"), ("r6", "a2", "y")],
    ]
    after = observe(found, "onnx", samples("onnx"))
    for one in done:
        for statistics, said in ((before, one.uneven_before), (after, one.uneven_after)):
            reach = statistics[one.tensor].channel_high
            assert reach is not None
            assert unevenness(reach) == pytest.approx(said, rel=1e-4)
    # In front of a depthwise convolution every channel gets the range of the tensor.
    assert done[0].uneven_before > 5
    assert done[0].uneven_after == pytest.approx(1)


@pytest.mark.parametrize("format", FORMATS)
def test_only_weights_change_and_always_the_same_way(format: str, tmp_path: Path) -> None:
    path = WRITERS[format](distorted(healthy()), tmp_path / f"bad.{format}")
    first, _ = equalized(path, format)
    content = first.read_bytes()
    assert len(content) == path.stat().st_size
    assert equalized(path, format)[0].read_bytes() == content


def test_every_channel_reaches_the_range() -> None:
    reach = np.array([8.0, 0.5, 1e-3, 1e-9, 0.0])
    # 1e-3 is beyond the limit of 1000; the last two are dead.
    assert channel_factors(reach).tolist() == [1, 0.0625, 0.001, 1, 1]
    assert channel_factors(np.zeros(3)).tolist() == [1, 1, 1]


def test_reach_and_weight_are_balanced_where_weights_share_a_scale() -> None:
    reach, weight = np.array([8.0, 0.5, 8.0]), np.array([1.0, 1.0, 0.0])
    factors = channel_factors(reach, weight)
    assert (reach / factors).tolist() == [8, 2, 8]  # the root of the ratio; no weight at all: nothing to gain
    # A channel made 100 times larger is made as much smaller.
    scale = np.array([1.0, 100.0, 1.0])
    other = channel_factors(reach * scale, weight / scale)
    ratio = (reach * scale / other) / (reach / factors)
    assert ratio[0] == pytest.approx(ratio[1])


def test_weights_on_channels_that_never_fired_do_not_outweigh_the_others() -> None:
    reach, weight = np.array([1.0, 1e-3, 0.0]), np.array([1.0, 1000.0, 1000.0])
    factors = channel_factors(reach, weight)
    assert (weight * factors).tolist() == pytest.approx([1, 1, 1])
    assert channel_factors(reach, weight, cap=6.0)[2] == 1


def test_capped_channels_keep_headroom_and_saturated_ones_stay() -> None:
    factors = channel_factors(np.array([6.0, 5.5, 0.6, 3.0]), cap=6.0)
    assert factors.tolist() == pytest.approx([1, 1, 0.6 / 4.8, 3 / 4.8])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("scale", [0.2, 20.0])
def test_relu6_cuts_where_it_did(format: str, scale: float, tmp_path: Path) -> None:
    weights = healthy()
    spread = np.geomspace(0.05, 1, 8).astype(np.float32) * scale
    weights["w1"] = weights["w1"] * spread.reshape(-1, 1, 1, 1)
    path = tmp_path / f"capped.{format}"
    if format == "tflite":
        net = Network((1, 8, 8, 3))
        c = {name: net.constant(name, weights[name]) for name in ("w1", "w1_bias", "w2", "w2_bias")}
        net.save(path, net.conv(net.conv(net.x, c["w1"], c["w1_bias"], RELU6), c["w2"], c["w2_bias"], NONE))
    else:
        constants = {name: weights[name].transpose(0, 3, 1, 2) for name in ("w1", "w2")}
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4),
            helper.make_node("Clip", ["c1", "zero", "six"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2"], ["y"]),
        ]
        limits = {"zero": np.float32(0), "six": np.float32(6)}
        shapes = ({"x": [1, 3, 8, 8]}, {"y": [1, 12, 8, 8]})
        onnx_graphs.save(onnx_graphs.model(nodes, {**constants, **limits}, *shapes), tmp_path, path.name)
    measured = observe(path, format, samples(format))
    saturated = sum(s.high == 6.0 for s in measured.values()) > 0
    assert saturated == (scale == 20.0)
    found, done = equalized(path, format)
    assert len(done) == 1
    assert_same(path, found, format)
