"""A user's own ONNX file: batch 1, checked, simplified, and refused with a reason where it cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphs
import pytest
from onnx import TensorProto, helper

from edgekit.convert import onnx_quantized, onnx_source
from edgekit.convert.onnx_file import float16, from_onnx
from edgekit.errors import StageError, UnsupportedError
from edgekit.quantize.calibrate import ranges_onnx
from edgekit.quantize.decide import decide
from edgekit.runtimes import ort


def dynamic(axis: int) -> onnx.ModelProto:
    proto = onnx_graphs.detector()
    proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "n"
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.dim_param = "m"
    return proto


def run(content: bytes, folder: Path, image: np.ndarray) -> np.ndarray:
    path = folder / "run.onnx"
    path.write_bytes(content)
    return np.asarray(ort.open_model(str(path), 1).run([image])[0])


def test_a_dynamic_batch_becomes_one(tmp_path: Path) -> None:
    content = from_onnx(onnx_graphs.save(dynamic(0), tmp_path))
    graph = onnx.load_from_string(content).graph
    for value, shape in ((graph.input[0], [1, 3, 8, 8]), (graph.output[0], [1, 6, 4, 4])):
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == shape


def test_out_of_memory_is_not_called_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> onnx.ModelProto:
        raise MemoryError

    path = onnx_graphs.save(onnx_graphs.detector(), tmp_path)
    monkeypatch.setattr(onnx, "load", full)
    with pytest.raises(MemoryError):
        from_onnx(path)


def test_other_dynamic_dimensions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="dimension 2 of input 'image'") as caught:
        from_onnx(onnx_graphs.save(dynamic(2), tmp_path))
    assert "fixed shapes" in caught.value.hint


def test_a_quantized_file_states_the_shapes_that_its_runtime_knows(tmp_path: Path) -> None:
    """Shape -> Range -> Gather is constant once the batch is 1, which onnx's own inference does not fold."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Gather", ["size", "one"], ["wide"]),
        helper.make_node("Range", ["zero", "wide", "step"], ["places"]),
        helper.make_node("Gather", ["x", "places"], ["y"], axis=1),
        helper.make_node("NonZero", ["x"], ["found"]),
    ]
    scalars = [
        helper.make_tensor(name, TensorProto.INT64, [], [n]) for name, n in (("zero", 0), ("one", 1), ("step", 1))
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"]),
            helper.make_tensor_value_info("found", TensorProto.INT64, [2, "k"]),
        ],
        scalars,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((4, 6), np.float32))
    preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
    dataset = {"kind": "npz", "path": tmp_path / "x.npz", "preprocess": preprocess}
    out = tmp_path / "out"
    out.mkdir()
    onnx_source.run(
        out=out, progress=lambda *_: None, model=tmp_path / "m.onnx", dataset=dataset, samples=2, as_is=True
    )  # fmt: skip
    made = onnx.load(out / "model.onnx")
    assert [node.op_type for node in made.graph.node] == [node.op_type for node in nodes]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in made.graph.output}
    assert shapes == {"y": [1, 6], "found": [2, 0]}, "how many NonZero finds only the samples tell"


def test_numbers_and_names_stay(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    image = onnx_graphs.samples(proto)[0]["image"]
    path = onnx_graphs.save(proto, tmp_path)
    content = from_onnx(path)
    # Folding constants may change the order of a sum, nothing else.
    assert np.abs(run(path.read_bytes(), tmp_path, image) - run(content, tmp_path, image)).max() < 1e-4
    assert content == from_onnx(path)


def test_float16_keeps_float32_at_the_ends(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    content = from_onnx(onnx_graphs.save(proto, tmp_path))
    half = float16(content)
    graph = onnx.load_from_string(half).graph
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)
    image = onnx_graphs.samples(proto)[0]["image"]
    expected = run(content, tmp_path, image)
    # 11 bits of mantissa, a dozen ops: under 1 % of the largest value.
    assert 0 < np.abs(expected - run(half, tmp_path, image)).max() < 0.01 * np.abs(expected).max()
    assert half == float16(content)


def test_files_that_are_not_onnx_are_told(tmp_path: Path) -> None:
    path = tmp_path / "garbage.onnx"
    path.write_bytes(b"this is not a protobuf")
    with pytest.raises(StageError, match=r"garbage\.onnx"):
        from_onnx(path)
    with pytest.raises(StageError, match=r"missing\.onnx"):
        from_onnx(tmp_path / "missing.onnx")


def test_an_old_opset_is_refused(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    proto.opset_import[0].version = 6
    with pytest.raises(UnsupportedError, match="opset 6"):
        from_onnx(onnx_graphs.save(proto, tmp_path))


def test_an_opset_before_13_is_raised(tmp_path: Path) -> None:
    """As exporters wrote it before 2018: weights are inputs too, axes attributes, Clip's limits, and IR version 3."""
    random = np.random.default_rng(0)
    constants = [onnx.numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
                 for name, shape in (("w", (4, 3, 3, 3)), ("m", (4, 2)))]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Clip", ["c"], ["r"], min=0.0, max=6.0),
        helper.make_node("ReduceMean", ["r"], ["s"], axes=[2, 3], keepdims=1),
        helper.make_node("Squeeze", ["s"], ["f"], axes=[2, 3]),
        helper.make_node("MatMul", ["f", "m"], ["d"]),
        helper.make_node("Softmax", ["d"], ["y"], axis=1),
    ]
    values = {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3), "m": (4, 2)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=3)
    image = random.standard_normal((1, 3, 8, 8)).astype(np.float32)
    raised = from_onnx(onnx_graphs.save(proto, tmp_path))
    assert onnx.load_from_string(raised).opset_import[0].version >= 13
    np.testing.assert_allclose(
        run(raised, tmp_path, image), run(proto.SerializeToString(), tmp_path, image), rtol=1e-5, atol=1e-6
    )


def test_layer_norm_passes_shape_inference(tmp_path: Path) -> None:
    """ONNX Runtime's own preparation fails on such graphs with 'incomplete symbolic shape inference'."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"]),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axes"], ["variance"]),
        helper.make_node("Sqrt", ["variance"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["y"]),
    ]
    proto = onnx_graphs.model(nodes, {"axes": np.array([-1])}, {"x": [1, 4, 6]}, {"y": [1, 4, 6]})
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    inferred = onnx.load_from_string(from_onnx(onnx_graphs.save(proto, tmp_path)))
    known = {value.name for value in inferred.graph.value_info} | {"y"}
    assert {name for node in inferred.graph.node for name in node.output} <= known


def test_a_matrix_as_bias_is_taken_out_of_its_gemm(tmp_path: Path) -> None:
    """Positional embeddings end up there; ONNX Runtime's quantizer stops at them."""
    random = np.random.default_rng(0)
    constants = {"w": random.normal(size=(4, 6)), "c": random.normal(size=(5, 4))}
    proto = onnx_graphs.model(
        [helper.make_node("Gemm", ["x", "w", "c"], ["y"], transB=1)],
        {name: value.astype(np.float32) for name, value in constants.items()},
        {"x": [5, 6]},
        {"y": [5, 4]},
    )
    path = onnx_graphs.save(proto, tmp_path)
    content = from_onnx(path)
    assert [node.op_type for node in onnx.load_from_string(content).graph.node] == ["Gemm", "Add"]
    x = random.normal(size=(5, 6)).astype(np.float32)
    assert np.abs(run(path.read_bytes(), tmp_path, x) - run(content, tmp_path, x)).max() < 1e-5
    fixed = tmp_path / "fixed.onnx"
    fixed.write_bytes(content)
    for scheme in ("tensorrt", "cpu"):
        plan = decide(fixed, "onnx", "int8", scheme, ranges_onnx(fixed, [{"x": x}]))
        quantized = run(onnx_quantized.emit(content, plan), tmp_path, x)
        # Two 8-bit operands.
        assert np.abs(run(content, tmp_path, x) - quantized).max() < 0.1
