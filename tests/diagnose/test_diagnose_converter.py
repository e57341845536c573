"""Files of TensorFlow's own converter, which renames tensors and takes integers."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnosing import diagnose

sys.path.append(str(Path(__file__).parents[1] / "convert"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's, of several kinds
]


@pytest.mark.parametrize("io", ["float32", "int8", "float16"])
def test_a_file_of_tensorflow_is_read_as_well(io: str, tmp_path: Path) -> None:
    """``io``: what goes in and out of an int8 file; or a float16 file, whose tensor names are not those of float32."""
    import convert_models as models
    import tensorflow as tf

    from edgekit.convert import float_graph, tflite

    network = models.detector()
    float_graph.export_keras(network, tmp_path / "saved")
    (tmp_path / "float.tflite").write_bytes(tflite.float32(tmp_path / "saved"))
    inputs = models.samples(network, 8)
    samples = [{name: array[i : i + 1] for name, array in inputs.items()} for i in range(8)]

    def representative() -> Iterator[Any]:
        yield from samples

    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    content = tflite.float16(tmp_path / "saved") if io == "float16" else converter.convert()
    (tmp_path / "theirs.tflite").write_bytes(content)
    diagnosis = diagnose(tmp_path / "float.tflite", tmp_path / "theirs.tflite", samples, tmp_path)
    assert diagnosis.unmatched == []
    assert {output.output for output in diagnosis.outputs} == {"boxes", "scores"}
    assert all(output.relative_error is not None and output.relative_error < 0.02 for output in diagnosis.outputs)
    assert all(layer.sqnr_db is None or layer.sqnr_db > 30 for layer in diagnosis.layers)  # None: equal, as inputs are
    assert [finding for finding in diagnosis.findings if finding.blame >= 0.05] == []
