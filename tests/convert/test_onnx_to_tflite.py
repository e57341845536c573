"""ONNX to TFLite: the same numbers, names and order, images channels last, and a refusal where that cannot be."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_networks
import pytest
from onnx_networks import Network

from edgekit import arrays
from edgekit.artifact import TensorSpec
from edgekit.convert import onnx_converter, onnx_file, onnx_tflite, tflite_float16, tflite_source
from edgekit.convert.finish import reference_of
from edgekit.convert.onnx_fusions import pad_instead_of_zeros
from edgekit.convert.onnx_layout import images
from edgekit.convert.onnx_outputs import turned, unmade
from edgekit.convert.onnx_tflite_ops import CONVERTED
from edgekit.convert.package import tensor_specs
from edgekit.dataset import Dataset, Preprocess
from edgekit.errors import DependencyError, RecipeError, StageError, UnsupportedError
from edgekit.runtimes import open_model
from edgekit.source.tflite_file import read_model

PLAIN = Preprocess(size=None, color="rgb", mean=(0.0,), scale=(1.0,))
SAMPLES = 3
Make = Callable[[Path], Path]

real = pytest.mark.skipif(
    bool(onnx_converter.missing()) and "CI" not in os.environ, reason=f"needs: {onnx_converter.COMMAND}"
)


def convert(source: Path, out: Path, tolerance: float = 1e-4) -> dict[str, Any]:
    """Run the stage as a build does, on random calibration samples."""
    out.mkdir(exist_ok=True)
    (out / "model.onnx").write_bytes(onnx_file.from_onnx(source))
    random, given = np.random.default_rng(1), {}
    for spec in open_model(out / "model.onnx", "onnx").inputs:
        shape = (SAMPLES, *spec["shape"][1:])
        floats = spec["dtype"].startswith("float")
        given[spec["name"]] = (random.normal(size=shape) if floats else random.integers(0, 50, shape)).astype(
            spec["dtype"]
        )
    arrays.save(out / "given.npz", given)
    return onnx_tflite.run(
        out=out, progress=lambda done, text: None, model=out / "model.onnx", inputs=out / "given.npz",
        tolerance=tolerance,
    )  # fmt: skip


NHWC = ["NCHW", "NHWC"]
NETWORKS: list[tuple[Make, dict[str, list[str]]]] = [
    (onnx_networks.classifier, {"image": NHWC}),
    (onnx_networks.segmenter, {"image": NHWC}),
    (onnx_networks.image_and_numbers, {"picture": NHWC}),
    (onnx_networks.yolo, {"images": NHWC}),
    (onnx_networks.encoder, {}),
    (onnx_networks.recurrent, {}),
    (onnx_networks.channels_last, {}),
    (onnx_networks.embedding, {}),
]


@real
@pytest.mark.slow
@pytest.mark.parametrize(("make", "layouts"), NETWORKS, ids=[make.__name__ for make, _ in NETWORKS])
def test_a_network_computes_the_same_in_tflite(make: Make, layouts: dict[str, list[str]], tmp_path: Path) -> None:
    source = make(tmp_path / "source.onnx")
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    found = convert(source, tmp_path / "out")
    assert found["layouts"] == layouts
    assert found["parity_error"] < 1e-5
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    (tmp_path / "out/model.onnx").unlink()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "first.npz", "given.npz", "inputs.npz", "layouts.json", "model.tflite", "reference.npz",
    ]  # fmt: skip

    ours, theirs = (tensor_specs(path, path.suffix[1:]) for path in (source, tmp_path / "out/model.tflite"))
    assert [spec.name for spec in theirs[0]] == [spec.name for spec in ours[0]]
    assert [(spec.name, spec.shape) for spec in theirs[1]] == [(spec.name, spec.shape) for spec in ours[1]]
    session = open_model(tmp_path / "out/model.tflite", "tflite")
    assert [spec["name"] for spec in session.outputs] == [spec.name for spec in ours[1]]

    # the hand-off: what the file is fed with from now on, and what it has to answer
    given, fed = arrays.load(tmp_path / "out/given.npz"), arrays.load(tmp_path / "out/inputs.npz")
    for name, array in given.items():
        np.testing.assert_array_equal(fed[name], array.transpose(0, 2, 3, 1) if name in layouts else array)
    answers = reference_of(tmp_path / "out/model.tflite", "tflite", fed)
    for name, array in reference_of(source, "onnx", given).items():
        np.testing.assert_allclose(answers[name], array, atol=1e-5 * max(1, np.abs(array).max()))


@real
@pytest.mark.slow
def test_two_conversions_write_the_same_bytes(tmp_path: Path) -> None:
    source = onnx_networks.classifier(tmp_path / "source.onnx")
    for name in ("one", "two"):
        convert(source, tmp_path / name)
    assert (tmp_path / "one/model.tflite").read_bytes() == (tmp_path / "two/model.tflite").read_bytes()


@real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "attributes", "said"),
    [
        ("LpNormalization", {"p": 1, "axis": 1}, "TFLite has no form of LpNormalization at"),
        ("Bernoulli", {}, "begins at or right before Bernoulli"),
    ],
    ids=["no-such-op", "other-numbers"],
)
def test_what_tflite_cannot_do_is_refused_by_the_name_of_the_op(
    kind: str, attributes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = onnx_networks.one_op(tmp_path / "source.onnx", kind, **attributes)
    with pytest.raises(UnsupportedError, match=said) as refused:
        convert(source, tmp_path / "out")
    assert "targets that take ONNX" in refused.value.hint
    assert not list((tmp_path / "out").glob("*/")), "nothing is left of the converter's own files"


@real
@pytest.mark.slow
def test_a_wrong_file_is_refused_whatever_the_reason(tmp_path: Path) -> None:
    source = onnx_networks.classifier(tmp_path / "source.onnx")
    with pytest.raises(UnsupportedError, match=r"computes something else on calibration samples: output 'classes'"):
        convert(source, tmp_path / "out", tolerance=1e-12)


@real
@pytest.mark.slow
def test_a_converter_that_hangs_or_dies_is_an_error_of_its_own(tmp_path: Path) -> None:
    source = onnx_networks.classifier(tmp_path / "source.onnx")
    with pytest.raises(UnsupportedError, match=r"did not finish source\.onnx within 0\.01 s"):
        onnx_converter.convert(source, [], tmp_path / "late", longest_s=0.01)
    source.write_bytes(b"not a network")
    with pytest.raises(StageError, match="converter gave up") as broken:
        onnx_converter.convert(source, [], tmp_path / "broken")
    assert "\x1b" not in broken.value.message


@real
@pytest.mark.slow
def test_names_of_inputs_and_outputs_are_kept_whatever_they_are(tmp_path: Path) -> None:
    made = Network()
    image, label, again = "input:0", "Identity_1:0\U0001f642", "a/b.c d"
    label = made.linear(made.op("Flatten", made.op("GlobalMaxPool", made.conv(image, 3, 8))), 8, 4, out=label)
    made.op("Softmax", label, out=again, axis=1)
    source = made.save(tmp_path / "source.onnx", {image: (1, 3, 8, 9)}, {again: (1, 4), label: (1, 4)})
    assert convert(source, tmp_path / "out")["layouts"] == {image: NHWC}
    inputs, outputs = tensor_specs(tmp_path / "out/model.tflite", "tflite")
    assert ([spec.name for spec in inputs], [spec.name for spec in outputs]) == ([image], [again, label])


def test_an_output_is_turned_by_its_shape_or_else_by_its_numbers() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
    cube = np.random.default_rng(1).normal(size=(2, 4, 4, 4)).astype(np.float32)
    rows = np.zeros((2, 5), np.float32)
    expected = {"maps": maps, "cube": cube, "rows": rows}
    assert turned(expected, expected) == {}
    last = {"maps": maps.transpose(0, 2, 3, 1) + 9, "cube": cube.transpose(0, 2, 3, 1), "rows": rows}
    assert turned(expected, last) == {"maps": (0, 3, 1, 2), "cube": (0, 3, 1, 2)}
    assert turned(expected, {"maps": rows, "cube": cube + 9}) == {}


def test_a_tensor_that_nothing_gives_is_named() -> None:
    graph = SimpleNamespace(
        inputs=[0],
        tensors=[SimpleNamespace(name=name, buffer=buffer, isVariable=False) for name, buffer in
                 ((b"image", 0), (b"weight", 1), (b"features", 0), (b"lost", 0), (b"out", 0))],
        operators=[SimpleNamespace(inputs=[0, 1, -1], outputs=[2]), SimpleNamespace(inputs=[2, 3], outputs=[4])],
    )  # fmt: skip
    buffers = [SimpleNamespace(data=None), SimpleNamespace(data=b"1234")]
    assert unmade(SimpleNamespace(subgraphs=[graph], buffers=buffers)) == "lost"
    graph.operators[1].inputs = [2, 1]
    assert unmade(SimpleNamespace(subgraphs=[graph], buffers=buffers)) == ""


def layout_of(made: Network, shape: tuple[int, ...], out: str) -> bool:
    graph = onnx.helper.make_graph(
        made.nodes, "network",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))],
        [onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, None)], made.constants,
    )  # fmt: skip
    found = images(onnx.helper.make_model(graph))
    assert found in ({}, {"x": (shape[0], *shape[2:], shape[1])})
    return bool(found)


def test_an_image_is_what_convolutions_read() -> None:
    made = Network()
    assert layout_of(made, (1, 3, 8, 9), made.conv("x", 3, 4)), "an RGB image"
    made = Network()
    assert layout_of(made, (1, 20, 8, 9), made.conv("x", 20, 4)), "a spectrogram of 20 channels"
    made = Network()
    scaled = made.op("Div", made.op("Sub", "x", made.constant(0.5)), made.constant(0.2))
    assert layout_of(made, (1, 3, 8, 9), made.op("MaxPool", scaled, kernel_shape=[2, 2])), "normalized in the graph"


def test_what_is_no_image_keeps_its_layout() -> None:
    made = Network()
    turned = made.op("Transpose", "x", perm=(0, 3, 1, 2))
    assert not layout_of(made, (1, 8, 9, 3), made.conv(turned, 3, 4)), "channels last already"
    made = Network()
    assert not layout_of(made, (1, 3, 8, 8), made.op("MatMul", "x", made.weights(8, 4))), "a batch of matrices"
    made = Network()
    made.conv("x", 3, 4)
    assert not layout_of(made, (1, 3, 8, 9), made.op("Flatten", "x")), "read in its own order too"
    made = Network()
    assert not layout_of(made, (1, 8, 8, 8), made.conv("x", 8, 4)), "a cube: no shape tells its layouts apart"
    made = Network()
    assert not layout_of(made, (1, 3, 9), made.op("Relu", "x")), "a sequence"


def test_samples_of_either_layout_feed_either_file() -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
    first = TensorSpec("image", (1, 3, 4, 5), "float32")
    last = TensorSpec("image", (1, 4, 5, 3), "float32")
    for array in (pixels, pixels.transpose(0, 3, 1, 2)):
        data = Dataset(Path("x.npz"), PLAIN, arrays={"x": array})
        np.testing.assert_array_equal(data.inputs(1, [last])["image"], pixels[1:2])
        np.testing.assert_array_equal(data.inputs(1, [first])["image"], pixels[1:2].transpose(0, 3, 1, 2))
    with pytest.raises(RecipeError, match="takes"):
        Dataset(Path("x.npz"), PLAIN, arrays={"x": pixels}).inputs(0, [TensorSpec("image", (1, 5, 4, 3), "float32")])


def test_each_channel_has_its_own_mean_in_either_layout() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    own = Preprocess(size=None, color="rgb", mean=(1.0, 2.0, 3.0), scale=(0.5, 1.0, 2.0))
    np.testing.assert_array_equal(own.apply(pixels.transpose(2, 0, 1)).transpose(1, 2, 0), own.apply(pixels))
    np.testing.assert_array_equal(own.apply(pixels)[..., 2], (pixels[..., 2] - np.float32(3)) * 2)


@real
@pytest.mark.slow
def test_inspect_knows_what_the_converter_has_a_form_of() -> None:
    registry = importlib.import_module("onnx2tf.tflite_builder.op_registry")
    assert CONVERTED - {"Constant"} <= set(registry.get_supported_onnx_ops())
    left_out = set(registry.get_supported_onnx_ops()) - CONVERTED
    assert all(name.startswith(("Q", "Random", "Bernoulli", "String")) for name in left_out)


def test_random_inputs_are_like_the_samples() -> None:
    given = {"image": np.array([[[-2.0, 3.0]]], np.float32), "ids": np.array([[4, 9]], np.int64)}
    found = onnx_tflite.like(given, 50)
    assert (found["image"].shape, found["image"].dtype) == ((50, 1, 2), np.float32)
    assert -2 <= found["image"].min() < 0 < found["image"].max() <= 3
    assert set(np.unique(found["ids"])) == {4, 5, 6, 7, 8, 9}
    np.testing.assert_array_equal(found["image"], onnx_tflite.like(given, 50)["image"])


def test_a_missing_converter_is_one_command_and_exit_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_converter.NEEDED, "onnx2tf", "0.0")
    with pytest.raises(DependencyError) as refused:
        onnx_converter.require()
    assert "onnx2tf" in refused.value.message
    assert refused.value.hint.startswith("pip install --no-deps")
    onnx_networks.classifier(tmp_path / "model.onnx")
    (tmp_path / "edgekit.toml").write_text(
        '[model]\npath = "model.onnx"\n[data]\nkind = "npz"\ntest = "test.npz"\ncalibration = "calibration.npz"\n'
        '[targets]\nnames = ["pixel-8", "jetson-orin-nano"]\n'
    )
    for name in ("test", "calibration"):
        np.savez(tmp_path / f"{name}.npz", x=np.random.default_rng(len(name)).normal(size=(2, 3, 32, 48)))
    code = (
        "import sys; from edgekit.convert import onnx_converter; onnx_converter.NEEDED['onnx2tf'] = '0.0'\n"
        "from edgekit.cli import main; sys.argv[1:] = ['build', '--dry-run', *sys.argv[1:]]; sys.exit(main())"
    )
    for names, expected in ((["jetson-orin-nano"], 0), (["pixel-8"], 3), (["browser"], 3)):
        chosen = [word for name in names for word in ("-t", name)]
        done = subprocess.run(
            [sys.executable, "-c", code, "-c", str(tmp_path), *chosen], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == expected, done.stderr
        assert (expected == 0) == (onnx_converter.COMMAND.split()[-1] not in done.stderr.split())


def test_zeros_joined_to_a_map_are_padding(tmp_path: Path) -> None:
    made = Network()
    zeros, ones = made.constant(np.zeros((1, 2, 8, 9))), made.constant(np.ones((1, 1, 8, 9)))
    before = made.op("Concat", zeros, made.op("Concat", "image", zeros, axis=1), axis=1)
    made.op("Concat", before, ones, out="wide", axis=1)
    source = made.save(tmp_path / "source.onnx", {"image": (1, 3, 8, 9)}, {"wide": (1, 8, 8, 9)})
    proto = onnx.load(source)
    pad_instead_of_zeros(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == ["Pad", "Pad", "Concat"]
    onnx.save(proto, tmp_path / "padded.onnx")
    given = {"image": np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)}
    found = [reference_of(path, "onnx", given)["wide"] for path in (source, tmp_path / "padded.onnx")]
    np.testing.assert_array_equal(*found)


@real
@pytest.mark.slow
def test_float16_weights_take_half_the_room_and_compute_nearly_the_same(tmp_path: Path) -> None:
    convert(onnx_networks.encoder(tmp_path / "source.onnx"), tmp_path / "out")
    wide = tmp_path / "out/model.tflite"
    (tmp_path / "half").mkdir()
    found = tflite_float16.run(
        out=tmp_path / "half", progress=lambda done, text: None, model=wide,
        reference=tmp_path / "out/reference.npz", inputs=tmp_path / "out/inputs.npz",
    )  # fmt: skip
    assert 0 < found["parity_error"] < 2e-3
    half = tmp_path / "half/model.tflite"
    saved = wide.stat().st_size - half.stat().st_size
    assert saved > 0.9 * (4 * 32 * 32 * 2), "two bytes of each number of the four matrices, less four ops"
    model = read_model(half)
    assert tflite_float16.narrow(model) == 0, "nothing is left to narrow"
    assert tflite_source.widen(model), "and it is what edgekit reads back as float32"
