"""Pruning a user's ONNX file: the stage, files that are broken, and a whole build."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cut_graphs
import numpy as np
import onnx
import pytest
from project import edgekit, report_of

from edgekit.errors import EdgekitError, StageError, UnsupportedError
from edgekit.prune.onnx import stage, surgery
from edgekit.prune.onnx.execute import answers
from edgekit.runtimes import open_model

SETTINGS = {
    "keep_macs": 0.6, "minutes": 5, "importance": "reconstruction", "cost": "macs", "round_to": 2, "min_channels": 2,
    "max_layer_cut": 0.8, "limits": {}, "protect": [], "refit": True, "seed": 0,
}  # fmt: skip
ECHO = 300.0  # of rounding errors at the output
RECIPE = """\
schema = 1
[model]
path = "model.onnx"
[task]
kind = "classification"
classes = ["a", "b", "c", "d", "e"]
[data]
kind = "npz"
test = "test.npz"
calibration = "calibration.npz"
train = "calibration.npz"
[budget]
accuracy_drop = 90.0
[prune]
keep_macs = 0.6
round_to = 2
min_channels = 2
protect = ["stem"]
[quantize]
search = false
[profile]
min_seconds = 0.1
[targets]
names = ["raspberry-pi-4", "jetson-orin-nano"]
"""


def prepared(folder: Path, name: str, samples: int = 48) -> Path:
    """Write a network and its samples; return the network's file."""
    folder.mkdir(exist_ok=True)
    onnx.save(cut_graphs.GRAPHS[name](cut_graphs.Graph()), folder / "model.onnx")
    for part, count, seed in (("calibration", samples, 1), ("test", 24, 2)):
        images = np.random.default_rng(seed).standard_normal((count, 3, cut_graphs.SIZE, cut_graphs.SIZE))
        np.savez(folder / f"{part}.npz", x=images.astype(np.float32))
    return folder / "model.onnx"


def run(
    model: Path, out: Path, aim: float = 1.0, costs: Sequence[Path] = (), speedup: float | None = None, **settings: Any
) -> dict[str, Any]:
    plain = {"color": "rgb", "mean": [0.0], "scale": [1.0]}
    data = model.parent / "calibration.npz"
    dataset = {"kind": "npz", "path": data, "labels": None, "classes": [], "preprocess": plain}
    out.mkdir()
    return stage.run(
        out=out, progress=lambda done, what: None, model=model, dataset=dataset, labelled=False,
        task={"kind": "generic"}, costs=costs, settings={**SETTINGS, **settings},
        aim={"accuracy_drop": aim, "speedup": speedup, "latency_ms": None, "slack": 1.0},
    )  # fmt: skip


def test_an_amount_is_cut_proven_and_repaired(tmp_path: Path) -> None:
    facts = run(prepared(tmp_path / "m", "residual"), tmp_path / "out")
    assert facts["macs_after"] <= 0.6 * facts["macs_before"]
    assert facts["parameters_after"] < facts["parameters_before"]
    assert 0 <= facts["exactness_error"] <= 1e-5
    assert facts["recovery"] == "closed form, no training: least squares"
    assert facts["frozen"] == ["classes: is the model output 'classes'"]
    [made] = facts["tried"]
    assert made["drop_points"] is not None
    assert open_model(tmp_path / "out" / stage.MODEL, "onnx").inputs[0]["shape"] == [1, 3, 12, 12]


def test_rounding_that_the_network_itself_echoes_is_no_error_of_the_cut(tmp_path: Path) -> None:
    model = prepared(tmp_path / "m", "residual")
    proto = onnx.load(model)
    name, end = proto.graph.output[0].name, onnx.helper.make_tensor_value_info("waves", onnx.TensorProto.FLOAT, [1, 5])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(ECHO), "echo"))
    proto.graph.node.append(onnx.helper.make_node("Mul", [name, "echo"], ["loud"]))
    proto.graph.node.append(onnx.helper.make_node("Sin", ["loud"], ["waves"]))
    del proto.graph.output[:]
    proto.graph.output.append(end)
    onnx.save(proto, model)
    facts = run(model, tmp_path / "out", refit=False)
    assert 1e-5 < facts["exactness_error"] < 1e-3


def test_a_cut_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = surgery.pruned

    def wrong(*arguments: Any) -> bytes:
        proto = onnx.load_from_string(right(*arguments))
        weight = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
        weight.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name)
        )
        return proto.SerializeToString()

    monkeypatch.setattr(surgery, "pruned", wrong)
    with pytest.raises(StageError, match="from the original with those channels zeroed"):
        run(prepared(tmp_path / "m", "residual"), tmp_path / "out")


def test_the_same_file_twice(tmp_path: Path) -> None:
    model = prepared(tmp_path / "m", "chain")
    made = [run(model, tmp_path / name) and (tmp_path / name / stage.MODEL).read_bytes() for name in ("one", "two")]
    assert made[0] == made[1]


def test_where_no_amount_stays_within_the_budget_the_model_goes_on_as_it_is(tmp_path: Path) -> None:
    model = prepared(tmp_path / "m", "chain")
    facts = run(model, tmp_path / "out", aim=-50.0, keep_macs="auto")
    assert facts["macs_after"] == facts["macs_before"]
    assert facts["tried"]
    assert "on held samples" in facts["notes"][0]
    kept = onnx.load(tmp_path / "out" / stage.MODEL)
    assert {tuple(item.dims) for item in kept.graph.initializer} >= {(16, 3, 3, 3), (24, 16, 3, 3), (5, 24)}


def test_a_searched_amount_is_the_least_within_the_budget(tmp_path: Path) -> None:
    facts = run(prepared(tmp_path / "m", "residual"), tmp_path / "out", aim=40.0, keep_macs="auto")
    chosen = next(item for item in facts["tried"] if item["name"] == facts["chosen"])
    assert chosen["macs"] == facts["macs_after"]
    within = [item["macs"] for item in facts["tried"] if item["drop_points"] <= 40.0]
    assert facts["macs_after"] == min(within)


def test_too_few_samples_to_search_with(tmp_path: Path) -> None:
    facts = run(prepared(tmp_path / "m", "chain", samples=8), tmp_path / "out", keep_macs="auto")
    assert facts["macs_after"] == facts["macs_before"]
    assert "too few samples" in facts["notes"][0]


def test_nothing_to_cut_at_a_given_amount(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"the widest .*'second', are 24, .* min_channels = 64"):
        run(prepared(tmp_path / "m", "chain"), tmp_path / "out", min_channels=64)


def cyclic(model: onnx.ModelProto) -> None:
    nodes = {node.name: node for node in model.graph.node}
    nodes["first"].input[0] = nodes["second"].output[0]


def without_a_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer.remove(model.graph.initializer[0])


def a_weight_of_nothing(model: onnx.ModelProto) -> None:
    for place, shape in ((0, (0, 3, 3, 3)), (1, (0,)), (2, (24, 0, 3, 3))):
        tensor = model.graph.initializer[place]
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), tensor.name))


def an_image_of_nothing(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0


def a_weight_that_does_not_fit(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[2]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((24, 17, 3, 3), np.float32), tensor.name))


def two_of_one_name(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


@pytest.mark.parametrize(
    "broken",
    [cyclic, without_a_weight, a_weight_of_nothing, an_image_of_nothing, a_weight_that_does_not_fit, two_of_one_name],
    ids=lambda function: function.__name__,
)
def test_a_broken_file_ends_in_a_clear_error(broken: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    path = prepared(tmp_path / "m", "chain")
    model = onnx.load(path)
    broken(model)
    onnx.save(model, path)
    with pytest.raises(EdgekitError) as caught:
        run(path, tmp_path / "out")
    assert isinstance(caught.value, StageError | UnsupportedError)
    assert not (tmp_path / "out" / stage.MODEL).exists()


@pytest.mark.slow
def test_one_network_is_pruned_for_a_tflite_and_a_jetson_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    folder = prepared(tmp_path / "m", "residual").parent
    labelled_by_itself(folder)
    (folder / "edgekit.toml").write_text(RECIPE)
    done = edgekit("build", "-c", folder, "-o", folder / "out")
    assert done.code in (0, 7), done.err
    report = report_of(folder / "out")
    prune = report["prune"]
    assert prune["macs_after"] <= 0.6 * prune["macs_before"]
    assert prune["cost"] == "latency"
    assert all(place["place"].startswith("ai-edge-litert") for place in prune["predicted"])
    assert all(place["after_ms"] < place["before_ms"] for place in prune["predicted"])
    assert prune["recovery"].startswith("closed form, no training")
    assert prune["judged_by"] == "labels, against the unpruned model"
    assert any(reason.startswith("classes: ") for reason in prune["frozen"])
    assert "closed form, no training" in (folder / "out/report.html").read_text()

    pruned = {}
    for target, format in (("raspberry-pi-4", "tflite"), ("jetson-orin-nano", "onnx")):
        [found] = [item["variants"] for item in report["targets"] if item["target"] == target]
        rows = {row["name"]: row for row in found}
        assert rows.keys() >= {"float32", "pruned-float32", "int8", "pruned-int8"}
        assert rows["float32"]["accuracy"]["value"] == 1.0  # the truth is what it says
        for row in rows.values():
            assert (row["format"], row["accuracy"]["samples"]) == (format, 24)
        assert rows["pruned-float32"]["size_bytes"] < rows["float32"]["size_bytes"]
        pruned[format] = folder / "out" / rows["pruned-float32"]["file"]
    kernels = onnx.load(pruned["onnx"]).graph.initializer
    assert (16, 3, 3, 3) in {tuple(item.dims) for item in kernels}  # protected
    image = np.load(folder / "test.npz")["x"][:1]
    expected, found = answer(pruned["onnx"], image), answer(pruned["tflite"], image.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    (folder / "edgekit.toml").write_text(RECIPE.replace("round_to", "low_rank = true\nround_to"))
    refused = edgekit("build", "-c", folder, "--dry-run", "--json")
    assert refused.code == 2
    assert "prune.low_rank needs a Keras model" in refused.err + json.dumps(refused.out)


def labelled_by_itself(folder: Path) -> None:
    """Add to the samples the classes that the network names."""
    for name in ("calibration", "test"):
        images = np.load(folder / f"{name}.npz")["x"]
        outputs = answers((folder / "model.onnx").read_bytes(), {"image": images})
        np.savez(folder / f"{name}.npz", x=images, y=[int(one["classes"].argmax()) for one in outputs])


def answer(file: Path, image: np.ndarray) -> np.ndarray:
    return np.asarray(open_model(file, file.suffix[1:]).run([image])[0])
