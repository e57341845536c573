"""Dead channels: the bias has to fit int32 in steps of input scale times weight scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tflite_graphs import RELU, Network

from edgekit.convert import tflite_quantized
from edgekit.quantize import decide
from edgekit.quantize.calibrate import ranges
from edgekit.quantize.dead_channels import guard
from edgekit.quantize.equalize.tflite_weights import TfliteFile
from edgekit.runtimes import open_model

SHAPE = (1, 8, 8, 4)


def gates(path: Path, small: float) -> Path:
    """Write a layer whose second half of channels is its bias, 0.9, and weights of about ``small``; then another."""
    random = np.random.default_rng(0)
    weight = random.normal(0, 0.5, (8, 3, 3, 4)).astype(np.float32)
    weight[4:] *= small
    bias = np.r_[np.zeros(4), np.full(4, 0.9)].astype(np.float32)
    net = Network(SHAPE)
    first = net.conv(net.x, net.constant("w", weight), net.constant("b", bias), RELU)
    mixing = random.normal(0, 0.3, (6, 1, 1, 8)).astype(np.float32)
    last = net.conv(first, net.constant("w2", mixing), net.constant("b2", np.zeros(6, np.float32)), RELU)
    return net.save(path, last)


def quantized_error(path: Path, guarded: bool, folder: Path) -> float:
    """Return the worst error of int8 at the output, over its largest magnitude."""
    samples = [{"x": np.random.default_rng(i).normal(0, 1, SHAPE).astype(np.float32)} for i in range(8)]
    found = ranges(path, "tflite", samples)
    content = guard(path, found)[0] if guarded else path.read_bytes()
    (folder / "float.tflite").write_bytes(content)
    plan = decide.decide(folder / "float.tflite", "tflite", "int8", ranges=found)
    (folder / "int8.tflite").write_bytes(tflite_quantized.emit(content, plan))
    exact, rounded = (open_model(p, "tflite") for p in (path, folder / "int8.tflite"))
    pairs = [(exact.run([s["x"]])[0], rounded.run([s["x"]])[0]) for s in samples]
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_a_dead_channel_ruins_int8_without_the_guard_and_not_with_it(tmp_path: Path) -> None:
    path = gates(tmp_path / "gates.tflite", 1e-12)
    assert quantized_error(path, False, tmp_path) > 0.15, "the fault must hurt, or this test shows nothing"
    assert quantized_error(path, True, tmp_path) < 0.05


def test_the_guard_names_the_layer_and_moves_its_output_by_next_to_nothing(tmp_path: Path) -> None:
    path = gates(tmp_path / "gates.tflite", 1e-12)
    content, done = guard(path, {"x": (-4.0, 4.0)})
    assert [item.channels for item in done] == [4]
    (tmp_path / "guarded.tflite").write_bytes(content)
    x = np.random.default_rng(9).normal(0, 1, SHAPE).astype(np.float32)
    before, after = (open_model(p, "tflite").run([x])[0] for p in (path, tmp_path / "guarded.tflite"))
    assert np.abs(before - after).max() < 1e-4 * np.abs(before).max()


def test_a_healthy_file_comes_back_byte_for_byte(tmp_path: Path) -> None:
    path = gates(tmp_path / "gates.tflite", 1.0)
    content, done = guard(path, {"x": (-4.0, 4.0)})
    assert done == []
    assert content == path.read_bytes()


def test_a_constant_in_the_beginning_of_a_larger_buffer_is_read_right(tmp_path: Path) -> None:
    net = Network(SHAPE)
    weight = net.constant("w", np.ones((4, 1, 1, 4), np.float32))
    net.constant("long", np.arange(100, dtype=np.float32))
    bias = net.tensor("b", (4,), buffer=len(net.buffers) - 1)
    path = net.save(tmp_path / "shared.tflite", net.conv(net.x, weight, bias, RELU))
    assert TfliteFile(path).array("b") == pytest.approx(np.arange(4))
