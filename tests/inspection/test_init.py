"""`edgekit init`: a recipe for a model that has none loads, and builds once its samples are there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from PIL import Image
from project import FASHION, SAMPLES, edgekit, report_of
from small_onnx import Outputs, write
from tiny_tflite import write_add_relu

from edgekit import build, recipe, target
from edgekit.inspection import draft, look
from edgekit.source.tflite_file import read_model

IMAGE = (1, 3, 64, 64)  # at strides 8, 16 and 32: 64 + 16 + 4 = 84 places


def drafted(model: Path, *, force: bool = False) -> recipe.Recipe:
    """Do what the command does, without the time that a process takes to start."""
    path = model.parent / "edgekit.toml"
    boards = [target.load(name) for name in target.names()]
    draft.write(draft.draft(look(model, boards, lambda done, text: None), path, []), path, force=force)
    return recipe.load(path)


@pytest.mark.parametrize("name", ["fashion_classifier", "text_encoder", "digits_detector"])
def test_the_samples_recipes_are_complete_with_the_data_beside_them(name: str, tmp_path: Path) -> None:
    shutil.copyfile(SAMPLES / name / "model.keras", tmp_path / "model.keras")
    (tmp_path / "data").symlink_to(SAMPLES / name / "data")
    found, own = drafted(tmp_path / "model.keras"), recipe.load(SAMPLES / name / "edgekit.toml")
    assert found.task.kind == own.task.kind
    assert (found.task.decoder, found.task.boxes_output) == (own.task.decoder, own.task.boxes_output)
    assert found.data.kind == own.data.kind
    assert found.preprocess.color == ("rgb" if name != "fashion_classifier" else "gray")
    assert build.prepare(tmp_path, {}, []).plan.groups


FAMILIES: dict[str, tuple[Outputs, dict[str, Any]]] = {
    "yolo": ({"output0": (1, 4 + 10, 84)}, {"decoder": "rows", "box_format": "cxcywh", "objectness": False}),
    "yolo with anchors": ({"output": (1, 3 * 84, 5 + 10)}, {"decoder": "rows", "objectness": True}),
    "suppressed": ({"dets": (1, 100, 6)}, {"decoder": "final", "detections_output": "dets"}),
    "ssd": (
        {"scores": (1, 50, 21), "locations": (1, 50, 4)},
        {"decoder": "boxes_scores", "boxes_output": "locations", "scores_output": "scores"},
    ),
    "tf object detection": (
        {"boxes": (1, 10, 4), "classes": (1, 10), "scores": (1, 10), "count": (1,)},
        {"decoder": "lists", "box_scale": "relative", "image_size": (64, 64), "classes_output": "classes"},
    ),
    "centre heatmap": (
        {"hm": (1, 16, 16, 5), "wh": (1, 16, 16, 2), "offset": (1, 16, 16, 2)},
        {
            "decoder": "heatmap", "scores_output": "hm", "boxes_output": "wh", "offsets_output": "offset",
            "stride": 4, "score_logits": True,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_of_detectors_is_known_by_its_shapes(family: str, tmp_path: Path) -> None:
    outputs, expected = FAMILIES[family]
    found = drafted(write(tmp_path / "m.onnx", outputs, image=IMAGE))
    assert found.task.kind == "detection"
    assert {key: getattr(found.task, key) for key in expected} == expected
    assert found.data.kind == "coco"
    assert found.preprocess.size == (64, 64)
    text = (tmp_path / "edgekit.toml").read_text()
    assert "# guessed: " in text
    assert "FILL IN" in text


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [({"p": (1, 7)}, "classification"), ({"p": (1, 1)}, "generic"), ({"a": (1, 8), "b": (1, 8)}, "generic")],
)
def test_other_networks(outputs: Outputs, kind: str, tmp_path: Path) -> None:
    assert drafted(write(tmp_path / "m.onnx", outputs)).task.kind == kind


def test_a_map_that_a_sigmoid_ends_needs_none(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", {"hm": (1, 8, 8, 5), "wh": (1, 8, 8, 2)}, last="Sigmoid")
    assert not drafted(path).task.score_logits


def test_a_recipe_that_is_there_is_kept(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", {"p": (1, 7)})
    (tmp_path / "edgekit.toml").write_text("mine")
    done = edgekit("init", model, "-o", tmp_path)
    assert done.code == 2
    assert "--force" in done.err
    assert (tmp_path / "edgekit.toml").read_text() == "mine"
    assert drafted(model, force=True).task.kind == "classification"


def test_names_out_of_the_file_stay_text(tmp_path: Path) -> None:
    name = 'a"]\n[model]\npath = "evil'
    found = drafted(write(tmp_path / "m.onnx", {name: (1, 50, 4), "s\x7f/\U0001f642": (1, 50, 9)}))
    assert found.task.boxes_output == name
    assert found.task.scores_output == "s\x7f/\U0001f642"
    assert found.model.path == tmp_path / "m.onnx"


def test_a_model_that_no_target_takes_gets_no_recipe(tmp_path: Path) -> None:
    done = edgekit("init", write(tmp_path / "m.onnx", {"p": (1, 7)}, opset=6), "-o", tmp_path / "edgekit.toml")
    assert done.code == 4
    assert "opset 6" in done.err
    assert not (tmp_path / "edgekit.toml").exists()


@pytest.mark.slow
def test_a_first_recipe_builds_once_its_paths_are_filled_in(tmp_path: Path) -> None:
    shutil.copyfile(FASHION / "model.keras", tmp_path / "model.keras")
    done = edgekit("init", tmp_path / "model.keras", "-o", tmp_path, "-t", "raspberry-pi-4", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["fill_in"]
    assert "data/test" in edgekit("build", "-c", tmp_path).err
    with np.load(FASHION / "data" / "test.npz") as stored:
        for index in range(60):
            part = "samples" if index >= 30 else f"photos/{stored['y'][index]}"
            (tmp_path / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(stored["x"][index].squeeze().astype(np.uint8)).save(tmp_path / part / f"{index}.png")
    for number in range(10):  # a class of which these thirty hold no image
        (tmp_path / "photos" / str(number)).mkdir(exist_ok=True)
    text = (tmp_path / "edgekit.toml").read_text()
    text = text.replace('"data/test"', '"photos"').replace('"data/calibration"', '"samples"')
    (tmp_path / "edgekit.toml").write_text(text)
    done = edgekit("build", "-c", tmp_path, "-o", tmp_path / "out", "--time-budget", "3s", timeout_s=400)
    assert done.code == 0, done.err
    variants = report_of(tmp_path / "out")["targets"][0]["variants"]
    assert {"float32", "int8", "pruned-int8"} <= {variant["name"] for variant in variants}
    assert all(variant["accuracy"] for variant in variants)


@pytest.mark.parametrize(("kind", "mean"), [("INT8", 128.0), ("UINT8", 0.0)])
def test_pixels_of_a_model_that_takes_integers_stay_integers(kind: str, mean: float, tmp_path: Path) -> None:
    model = read_model(write_add_relu(tmp_path / "m.tflite"))
    for tensor in model.subgraphs[0].tensors:
        tensor.type, tensor.shape = getattr(schema.TensorType, kind), [1, 8, 8, 3]
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [1 / 255], [0]
    (tmp_path / "m.tflite").write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    found = drafted(tmp_path / "m.tflite").preprocess
    assert (found.mean, found.scale) == ((mean,), (1.0,))
