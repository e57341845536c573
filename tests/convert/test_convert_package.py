"""Metadata travels inside the file, changes nothing else, and the file can be described from the outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs
import pytest
import tiny_tflite

import edgekit
from edgekit.artifact import Artifact, digest
from edgekit.convert import package
from edgekit.errors import StageError
from edgekit.runtimes import litert, ort

METADATA = {"labels": ["cat", "dög"], "preprocess": {"mean": [0.5]}, "edgekit": "0.1.0", "recipe": "abc"}
RUNTIMES = {"tflite": litert.open_model, "onnx": ort.open_model}


@pytest.fixture(params=["tflite", "onnx"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    if request.param == "tflite":
        return tiny_tflite.write_add_relu(tmp_path / "model.tflite"), "tflite"
    return onnx_graphs.save(onnx_graphs.detector(), tmp_path), "onnx"


def outputs(content: bytes, format: str, folder: Path) -> list[Any]:
    path = folder / f"run.{format}"
    path.write_bytes(content)
    session = RUNTIMES[format](str(path), 1)
    random = np.random.default_rng(0)
    return list(session.run([random.normal(size=e["shape"]).astype(np.float32) for e in session.inputs]))


def test_metadata_comes_back_and_outputs_are_bit_equal(model: tuple[Path, str], tmp_path: Path) -> None:
    path, format = model
    assert package.read(path, format) == {}
    content = package.embed(path, format, METADATA)
    assert package.read(content, format) == METADATA
    pairs = zip(outputs(path.read_bytes(), format, tmp_path), outputs(content, format, tmp_path), strict=True)
    assert all(np.array_equal(before, after) for before, after in pairs)


def test_embedding_is_reproducible_and_replaces(model: tuple[Path, str]) -> None:
    path, format = model
    content = package.embed(path, format, METADATA)
    turned = dict(reversed(METADATA.items()))
    assert package.embed(path, format, turned) == content
    again = package.embed(content, format, {"labels": []})
    assert package.read(again, format) == {"labels": []}
    assert package.embed(again, format, METADATA) == content


def test_damaged_metadata_is_told(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    onnx.helper.set_model_props(proto, {package.KEY: "{"})
    with pytest.raises(StageError, match="damaged"):
        package.read(proto.SerializeToString(), "onnx")


def test_other_metadata_stays(tmp_path: Path) -> None:
    proto = onnx_graphs.detector()
    onnx.helper.set_model_props(proto, {"author": "someone"})
    content = package.embed(proto.SerializeToString(), "onnx", METADATA)
    kept = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert kept["author"] == "someone"


def test_tensors_are_described_under_their_signature_names(tmp_path: Path) -> None:
    path = tiny_tflite.write_add_relu(tmp_path / "model.tflite")
    inputs, results = package.tensor_specs(path, "tflite")
    assert [(spec.name, spec.shape, spec.dtype) for spec in inputs] == [("image", (1, 4), "float32")]
    assert {spec.name for spec in results} == {"sum", "scores"}


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 224, 224, 3), "NHWC"),
        ((1, 3, 224, 224), "NCHW"),
        ((1, 1, 28, 28), "NCHW"),
        ((1, 3, 5, 3), ""),
        ((1, 16, 16, 16), ""),
        ((1, 10), ""),
    ],
)
def test_the_layout_is_named_where_it_is_clear(shape: tuple[int, ...], layout: str) -> None:
    assert package.layout_of(shape) == layout


def test_the_manifest_entry_describes_the_file(model: tuple[Path, str]) -> None:
    path, format = model
    inputs, results = package.tensor_specs(path, format)
    artifact = Artifact(path, format, "int8", inputs, results, digest(path), path.stat().st_size)
    entry = package.model_json(artifact, labels=["a", "b"], preprocess={"size": [8, 8]})
    assert entry["file"] == path.name
    assert entry["sha256"] == digest(path)
    assert entry["edgekit"] == edgekit.__version__
    assert entry["labels"] == ["a", "b"]
    assert [item["name"] for item in entry["inputs"]] == [spec.name for spec in inputs]
    assert all(item["quantization"] is None for item in (*entry["inputs"], *entry["outputs"]))
    if format == "onnx":
        assert entry["inputs"][0]["layout"] == "NCHW"
