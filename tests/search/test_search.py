"""The precision search on a small real network with one poisoned layer, run for real."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.errors import StageError
from edgekit.quantize import decide
from edgekit.quantize.calibrate import ranges
from edgekit.quantize.graph import Graph, read_graph
from edgekit.quantize.plan import Plan
from edgekit.search import stage
from edgekit.search.problem import SENSITIVE, Base, Problem, noise_to_signal
from edgekit.search.search import search
from edgekit.search.trial import Trial, Trials
from edgekit.search.units import units_of

LAYERS = 6
CHANNELS = 8
GENERIC = {"kind": "generic"}


def network(path: Path, poisoned: int | None, branch: bool = False) -> Path:
    """Six convolutions with ReLU; the channels of one of them are rescaled, and the next undoes it.

    The float function is the same. In int8, one scale for channels 1 to 4096 leaves nothing of the small ones.
    ``branch``: two layers read the poisoned tensor, so no pair of layers can undo the fault.
    """
    random = np.random.default_rng(1)
    weights = [random.normal(0, 1.5 / np.sqrt(9 * CHANNELS), (CHANNELS, CHANNELS, 3, 3)) for _ in range(LAYERS)]
    weights[0] = random.normal(0, 0.3, (CHANNELS, 3, 3, 3))
    if poisoned is not None:
        factors = 2.0 ** np.linspace(0, -12, CHANNELS)
        weights[poisoned] = weights[poisoned] * factors[:, None, None, None]
        weights[poisoned + 1] = weights[poisoned + 1] / factors[None, :, None, None]
    extra = {"branch": weights[poisoned + 1] * 0.5} if branch and poisoned is not None else {}
    nodes, tensor = [], "image"
    for number in range(LAYERS):
        nodes.append(helper.make_node("Conv", [tensor, f"w{number}"], [f"c{number}"], pads=[1] * 4))
        if extra and number == (poisoned or 0) + 1:
            nodes.append(helper.make_node("Conv", [tensor, "branch"], ["side"], pads=[1] * 4))
            nodes.append(helper.make_node("Add", [f"c{number}", "side"], [f"s{number}"]))
        summed = nodes[-1].output[0]
        nodes.append(helper.make_node("Relu", [summed], [f"r{number}"]))
        tensor = f"r{number}"
    nodes.append(helper.make_node("Sigmoid", [tensor], ["scores"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "six",
        [value("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [value("scores", onnx.TensorProto.FLOAT, [1, CHANNELS, 8, 8])],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in ({f"w{i}": array for i, array in enumerate(weights)} | extra).items()
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Any]:
    x = np.random.default_rng(2).normal(0, 1, (40, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=x)
    preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
    return {"kind": "npz", "path": tmp_path / "images.npz", "preprocess": preprocess}


def run(
    folder: Path, model: Path, images: dict[str, Any], target_loss: float, seconds: float = 60.0,
    work: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    out = folder / "out"
    out.mkdir(exist_ok=True, parents=True)
    return stage.run(
        out=out, progress=lambda done, text: None, model=model, format="onnx", precision="int8", scheme="cpu",
        dataset=images, samples=128, task=GENERIC, target_loss=target_loss, seconds=seconds, work=work,
    )  # fmt: skip


def test_a_healthy_network_needs_one_trial(tmp_path: Path, images: dict[str, Any]) -> None:
    found = run(tmp_path, network(tmp_path / "m.onnx", None), images, 0.05)
    assert found["reached"]
    assert len(found["log"]) == 1
    assert found["sensitivity"] == []


def test_a_poisoned_layer_is_found_at_the_outputs_and_little_else_stays_float(
    tmp_path: Path, images: dict[str, Any]
) -> None:
    healthy = run(tmp_path, network(tmp_path / "healthy.onnx", None), images, 1.0)["loss"]
    found = run(tmp_path, network(tmp_path / "poisoned.onnx", 2, branch=True), images, 1.2 * healthy)
    assert found["log"][0]["loss"] > 3 * healthy, "the fault must hurt, or this test shows nothing"
    assert found["reached"]
    around = {"c2", "c3", "side"}  # the layers on both sides of the uneven tensor
    assert found["sensitivity"][0]["unit"] in around
    assert found["sensitivity"][0]["loss"] > 0
    assert isinstance(found["sensitivity"][0]["gain_ms"], float)
    plan = Plan.from_json((tmp_path / "out/plan.json").read_text())
    left = {item.op for item in plan.decisions if item.reason == SENSITIVE} & {"side", *(f"c{i}" for i in range(9))}
    assert left & around
    assert len(left) <= 3


def test_uneven_channels_between_two_layers_are_repaired_and_nothing_stays_float(
    tmp_path: Path, images: dict[str, Any]
) -> None:
    healthy = run(tmp_path, network(tmp_path / "healthy.onnx", None), images, 1.0)["loss"]
    found = run(tmp_path, network(tmp_path / "poisoned.onnx", 2), images, 1.2 * healthy)
    assert found["log"][0]["loss"] > 3 * healthy
    assert found["reached"]
    assert found["base"] == "equalized channels"
    assert any("r2" in note for note in found["notes"]), found["notes"]
    plan = Plan.from_json((tmp_path / "out/plan.json").read_text())
    assert SENSITIVE not in {item.reason for item in plan.decisions}


def test_the_same_search_twice_gives_the_same_plan(tmp_path: Path, images: dict[str, Any]) -> None:
    model = network(tmp_path / "m.onnx", 2)
    plans = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, model, images, 0.02)
        plans.append((tmp_path / name / "out/plan.json").read_text())
    assert plans[0] == plans[1]


def test_out_of_time_gives_the_best_so_far_and_says_so(tmp_path: Path, images: dict[str, Any]) -> None:
    found = run(tmp_path, network(tmp_path / "m.onnx", 2), images, 1e-9, seconds=1e-3)
    assert not found["complete"]
    assert not found["reached"]
    assert len(found["log"]) == 1
    Plan.from_json((tmp_path / "out/plan.json").read_text())
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"plan.json", "model.onnx"}, "no trial is left behind"


@pytest.mark.parametrize("available", range(1, 400, 7))
@pytest.mark.parametrize("wanted", [1, 128])
def test_what_judges_a_plan_never_set_its_ranges(available: int, wanted: int) -> None:
    split = stage.Split.of(available, wanted)
    assert 1 <= len(split.calibrate) <= wanted
    assert 1 <= len(split.held) <= stage.HELD_AT_MOST
    assert max(*split.calibrate, *split.held) < available
    if available >= 3:
        assert not set(split.calibrate) & set(split.held)


def test_units_are_a_weighted_op_and_what_follows_it(tmp_path: Path, images: dict[str, Any]) -> None:
    model = network(tmp_path / "m.onnx", None)
    samples = [{"image": np.ones((1, 3, 8, 8), np.float32)}]
    plan = decide.decide(model, "onnx", "int8", "cpu", ranges(model, "onnx", samples))
    units = units_of(read_graph(model, "onnx"), plan)
    last = LAYERS - 1  # its ReLU belongs to the output decoding, which stays float
    assert [unit.ops for unit in units] == [*((f"c{i}", f"r{i}") for i in range(last)), (f"c{last}",)]
    assert units[0].kind == "Conv"


class Deadly:
    """Stands for a plan whose file kills the runtime's process: unpickling it there aborts."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


def test_a_trial_that_kills_its_process_is_refused_and_the_next_one_runs(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", None)
    sample = {"image": np.ones((1, 3, 8, 8), np.float32)}
    with Trials("onnx", [sample, sample], tmp_path) as trials:
        dead = trials.run(model, Deadly())  # type: ignore[arg-type]
        assert "died" in dead.refusal
        alive = trials.run(model, None, limit=1)
    assert alive.refusal == ""
    assert [made["scores"].shape for made in alive.outputs] == [(1, CHANNELS, 8, 8)]


def test_noise_to_signal_is_that_of_the_worst_output() -> None:
    right = Trial(({"a": np.array([1.0, -1.0]), "b": np.array([0.0, 2.0])},), 0)
    got = Trial(({"a": np.array([1.0, -1.0]), "b": np.array([0.0, 1.0])},), 0)
    assert noise_to_signal(right, right) == 0.0
    assert noise_to_signal(right, got) == pytest.approx(0.5)  # error power 0.5, variance 1


def test_what_never_changes_is_no_signal() -> None:
    grid = np.linspace(0, 1000, 50)
    wobble = [np.sin(grid + number) for number in range(4)]
    right = Trial(tuple({"boxes": grid + each} for each in wobble), 0)
    got = Trial(tuple({"boxes": grid + 0.9 * each} for each in wobble), 0)
    assert 0.005 < noise_to_signal(right, got) < 0.02  # 0.1 of the signal; the grid would make it 1e-7


def test_where_the_float_model_detects_nothing_raw_outputs_judge(tmp_path: Path) -> None:
    empty = {"boxes": np.zeros((1, 4, 4), np.float32), "scores": np.zeros((1, 4, 2), np.float32)}
    other = {**empty, "boxes": np.ones((1, 4, 4), np.float32)}
    task = {
        "kind": "detection", "boxes_output": "boxes", "scores_output": "scores", "score_threshold": 0.05,
        "nms_iou": 0.5, "max_detections": 10,
    }  # fmt: skip
    judge = stage._Judge(Trial((empty, empty), 0), task)
    assert "raw outputs" in judge.notes[0]
    assert judge.loss(Trial((empty, empty), 0)) == 0.0
    assert judge.loss(Trial((other, other), 0)) > 0.4


def test_a_float_model_that_does_not_run_is_an_error() -> None:
    with pytest.raises(StageError, match="does not run: no such op"):
        stage._Judge(Trial((), 0, "no such op"), GENERIC)


@pytest.mark.parametrize("seconds", [1e-3, 0.8, 60.0])
@pytest.mark.parametrize("branch", [False, True])
def test_the_loss_that_is_told_is_that_of_the_file_that_comes_out(
    tmp_path: Path, images: dict[str, Any], branch: bool, seconds: float
) -> None:
    """The plan and the float model it is a plan of belong together, also where time ran out between two bases."""
    model = network(tmp_path / "m.onnx", 2, branch=branch)
    found = run(tmp_path, model, images, 1e-9, seconds)
    plan = Plan.from_json((tmp_path / "out/plan.json").read_text())
    held = [{"image": x[None]} for x in np.load(tmp_path / "images.npz")["image"][found["samples"] :]]
    held = held[: found["held_samples"]]
    with Trials("onnx", held, tmp_path) as trials:
        judge = stage._Judge(trials.run(model, None), GENERIC)
        assert judge.loss(trials.run(tmp_path / "out/model.onnx", plan)) == pytest.approx(found["loss"], abs=1e-9)


def test_a_plan_is_never_given_away_with_another_base() -> None:
    """Two bases, the second repaired and a little worse, and nothing that could be left float."""
    graph = Graph((), (), (), frozenset(), frozenset())
    bases = [Base(name, Path(name), graph, {name: (0.0, 1.0)}) for name in ("plain", "repaired")]
    losses = {"plain": 0.50, "repaired": 0.52}
    problem = Problem(
        decide=lambda base, exclude, hazards: Plan("onnx", "int8", "cpu", (), base.ranges),
        run=lambda base, plan, limit: Trial(({"y": np.full(1, losses[base.name])},), 1),
        loss=lambda trial: float(trial.outputs[0]["y"][0]),
        bases=[lambda base=base: base for base in bases],
    )
    found = search(problem, 0.01, 10.0, lambda done, text: None)
    assert set(found.plan.ranges) == {found.base.name}
    assert found.loss == losses[found.base.name]
