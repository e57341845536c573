"""A product with a constant matrix, as a converter from ONNX writes it, becomes a layer that int8 computes right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from tiny_tflite import write_add_relu

from edgekit.convert import tflite_quantized
from edgekit.convert.tflite_products import connect
from edgekit.quantize.calibrate import ranges_tflite
from edgekit.quantize.decide import decide
from edgekit.runtimes import open_model
from edgekit.source.tflite_file import kind_of, read_model

MATRIX = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
SAMPLES = np.random.default_rng(1).normal(size=(32, 1, 4)).astype(np.float32)


def write_product(path: Path, *, turned: bool) -> Path:
    """Write scores = relu(image x matrix); ``turned``: the matrix is stored the other way round."""
    model = read_model(write_add_relu(path))
    graph = model.subgraphs[0]
    graph.outputs = [2]
    del model.signatureDefs[0].outputs[1]
    for tensor in graph.tensors[1:]:
        tensor.shape = [1, 3]
    buffer, matrix = schema.BufferT(), schema.TensorT()
    stored = np.ascontiguousarray(MATRIX.T if turned else MATRIX)
    buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
    model.buffers.append(buffer)
    matrix.name, matrix.shape, matrix.buffer = b"matrix", list(stored.shape), len(model.buffers) - 1
    graph.tensors.append(matrix)
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.BATCH_MATMUL
    product = graph.operators[0]
    product.inputs, product.builtinOptionsType = [0, 3], schema.BuiltinOptions.BatchMatMulOptions
    product.builtinOptions = schema.BatchMatMulOptionsT()
    product.builtinOptions.adjY = turned
    return save(model, path)


def save(model: object, path: Path) -> Path:
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


def answers(path: Path) -> np.ndarray:
    session = open_model(path, "tflite")
    return np.stack([session.run([sample])[0] for sample in SAMPLES])


@pytest.mark.parametrize("turned", [False, True])
def test_it_computes_the_same_in_float_and_nearly_so_in_int8(turned: bool, tmp_path: Path) -> None:
    source = write_product(tmp_path / "m.tflite", turned=turned)
    expected = answers(source)
    assert np.allclose(expected, np.maximum(SAMPLES @ MATRIX, 0), atol=1e-6)
    model = read_model(source)
    assert connect(model)
    first = model.subgraphs[0].operators[0]
    assert kind_of(model.operatorCodes[first.opcodeIndex]) == "FULLY_CONNECTED"
    assert not connect(model)
    made = save(model, tmp_path / "made.tflite")
    assert np.abs(answers(made) - expected).max() < 1e-6
    plan = decide(made, "tflite", "int8", "litert", ranges_tflite(made, [{"image": sample} for sample in SAMPLES]))
    (tmp_path / "int8.tflite").write_bytes(tflite_quantized.emit(made, plan))
    assert np.abs(answers(tmp_path / "int8.tflite") - expected).max() < 0.05 * expected.max()


def test_a_matrix_that_something_else_reads_stays(tmp_path: Path) -> None:
    model = read_model(write_product(tmp_path / "m.tflite", turned=False))
    graph = model.subgraphs[0]
    graph.outputs = [2, 3]
    expected = len(graph.tensors)
    assert connect(model)
    assert len(graph.tensors) == expected + 1
    session = open_model(save(model, tmp_path / "made.tflite"), "tflite")
    assert session.run([SAMPLES[0]])[0].shape == (1, 3)
