"""Ranges are those of numpy, from one pass, and memory does not follow the number of samples."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs
import pytest
import tiny_tflite

from edgekit.errors import StageError
from edgekit.quantize.calibrate import MinMax, channel_axes, observe, ranges, ranges_onnx
from edgekit.quantize.graph import read_graph
from edgekit.runtimes import ort


def test_ranges_cover_every_float_activation(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    samples = onnx_graphs.samples(proto)
    found = ranges_onnx(onnx_graphs.save(proto, tmp_path), iter(samples))
    made = {name for node in proto.graph.node for name in node.output}
    assert set(found) == made | {"image"}
    stacked = np.concatenate([sample["image"] for sample in samples])
    assert found["image"] == (float(stacked.min()), float(stacked.max()))


def test_output_ranges_are_the_runtimes_own(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    samples = onnx_graphs.samples(proto)
    path = onnx_graphs.save(proto, tmp_path)
    session = ort.open_model(str(path), 1)
    outputs = np.concatenate([session.run([sample["image"]])[0] for sample in samples])
    low, high = ranges_onnx(path, samples)["detections"]
    # The calibration run is not optimized, the other is: sums in another order.
    assert (low, high) == pytest.approx((outputs.min(), outputs.max()), rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_tensor_that_explodes_is_named(bad: float) -> None:
    observer = MinMax()
    observer.observe([("fine", np.ones(3, np.float32)), ("scores", np.ones(3, np.float32))])
    with pytest.raises(StageError, match="scores"):
        observer.observe([("fine", np.ones(3)), ("scores", np.array([0.0, bad, 1.0]))])


def test_no_samples_and_wrong_samples_are_told(tmp_path: Path) -> None:
    path = onnx_graphs.save(onnx_graphs.detector(), tmp_path)
    with pytest.raises(StageError, match="no calibration samples"):
        ranges_onnx(path, [])
    with pytest.raises(StageError, match="sample 1 does not fit"):
        ranges_onnx(path, [{"picture": np.zeros((1, 3, 8, 8), np.float32)}])


def test_memory_does_not_grow_with_the_samples() -> None:
    def peak(count: int) -> int:
        def tensors() -> Iterator[tuple[str, Any]]:
            for name in ("a", "b"):
                yield name, np.random.default_rng(0).normal(size=50_000)

        observer = MinMax()
        tracemalloc.start()
        for _ in range(count):
            observer.observe(tensors())
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1)
    # One tensor is 400 kB: keeping even one more per sample would add 15 MB here.
    assert peak(40) - peak(2) < 200_000


def test_observed_ranges_are_the_calibrated_ones(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    path, samples = onnx_graphs.save(proto, tmp_path), onnx_graphs.samples(proto)
    found = observe(path, "onnx", iter(samples))
    assert {name: (s.low, s.high) for name, s in found.items()} == ranges(path, "onnx", samples)
    pictures = np.concatenate([sample["image"] for sample in samples])
    assert found["image"].channel_high is not None
    np.testing.assert_array_equal(found["image"].channel_high, pictures.max(axis=(0, 2, 3)))


def test_tflite_is_observed_with_channels_last(tmp_path: Path) -> None:
    path = tiny_tflite.write_add_relu(tmp_path / "tiny.tflite")
    samples = [{"image": np.array([[1.0, -2.0, k, 0.0]], np.float32)} for k in range(3)]
    found = observe(path, "tflite", iter(samples))
    assert {name: (s.low, s.high) for name, s in found.items()} == ranges(path, "tflite", samples)
    assert found["t1"].channel_high is not None
    assert found["t1"].channel_high.tolist() == [2, -4, 4, 0]
    assert found["t2"].zeros == 7


def test_features_of_products_are_last(tmp_path: Path) -> None:
    path = onnx_graphs.save(onnx_graphs.attention(), tmp_path)
    axes = channel_axes(read_graph(path, "onnx"), "onnx")
    assert {axes[name] for name in ("q", "k", "v", "y")} == {-1}
    assert axes["x"] == 1


def test_observing_tells_errors_as_calibrating_does(tmp_path: Path) -> None:
    path = onnx_graphs.save(onnx_graphs.detector(), tmp_path)
    with pytest.raises(StageError, match="no calibration samples"):
        observe(path, "onnx", [])
    with pytest.raises(StageError, match="sample 1 does not fit"):
        observe(path, "onnx", [{"picture": np.zeros((1, 3, 8, 8), np.float32)}])
    with pytest.raises(StageError, match="tensor 'image' reached nan"):
        observe(path, "onnx", [{"image": np.full((1, 3, 8, 8), np.nan, np.float32)}])
