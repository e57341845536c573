from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import recipe, target
from edgekit.plan import plan
from edgekit.steps import Step

SAMPLE = Path(__file__).parents[2] / "sample_models" / "fashion_classifier" / "edgekit.toml"


def steps(*targets: str, source: str = "keras", **overrides: object) -> dict[str, Step]:
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    written = recipe.load(SAMPLE, {**changed, "targets.names": list(targets)})
    return plan(written, [target.load(name) for name in targets], source, {}).steps


def places(*targets: str, **overrides: object) -> list[tuple[object, ...]]:
    return [tuple(place.values()) for place in steps(*targets, **overrides)["costs"].arguments["places"]]


def test_ops_are_timed_as_the_targets_run_them_each_once() -> None:
    assert places("raspberry-pi-5", "raspberry-pi-4", "pixel-8", "browser") == [
        ("local", "tflite", "int8", 1),
        ("local", "tflite", "float32", 1),
        ("local", "onnx", "float32", 1),
    ]


def test_without_quantization_float_ops_alone_are_timed() -> None:
    assert places("raspberry-pi-5", quantize__enabled=False) == [("local", "tflite", "float32", 1)]


def test_a_board_at_hand_is_timed_itself_with_its_threads() -> None:
    named = {"devices__raspberry-pi-5": "ssh://pi@board"}
    assert places("raspberry-pi-5", **named)[0] == ("ssh://pi@board", "tflite", "int8", 4)


@pytest.mark.parametrize(
    ("targets", "cost"), [(("jetson-orin-nano",), "latency"), (("raspberry-pi-5",), "macs")]
)  # fmt: skip
def test_nothing_is_timed_where_nothing_can_be_or_no_time_is_to_be_saved(targets: tuple[str, ...], cost: str) -> None:
    found = steps(*targets, prune__cost=cost)
    assert "costs" not in found
    assert found["prune"].arguments["costs"] == []


def test_timing_has_the_machine_for_itself_and_reaches_as_far_as_the_widest_limit() -> None:
    step = steps("raspberry-pi-5", prune__limits={"conv*": 0.9})["costs"]
    assert step.alone
    assert step.machine_bound
    assert step.arguments["largest_cut"] == 0.9


def test_the_ops_of_an_onnx_model_are_timed_without_tensorflow() -> None:
    planned = steps("raspberry-pi-5", source="onnx")
    assert planned["costs"].function == "edgekit.prune.latency.of_onnx:run"
    assert "keras" not in planned["costs"].libraries
    assert planned["prune"].arguments["costs"][0].step == "costs"


@pytest.mark.parametrize(
    ("source", "settings", "repaired"),
    [
        ("keras", {}, False),
        ("keras", {"prune__epochs": 0}, True),
        ("keras", {"prune__refit": True}, True),
        ("keras", {"prune__epochs": 0, "prune__refit": False}, False),
        ("onnx", {}, True),
        ("onnx", {"prune__refit": False}, False),
    ],
)
def test_a_cut_is_repaired_in_closed_form_where_nothing_is_trained(
    source: str, settings: dict[str, object], repaired: bool
) -> None:
    assert steps("raspberry-pi-5", source=source, **settings)["prune"].arguments["settings"]["refit"] is repaired


def test_unlabelled_images_go_to_recovery() -> None:
    more = SAMPLE.parent / "data" / "calibration.npz"
    found = steps("raspberry-pi-5", data__unlabelled=str(more))["prune"].arguments["others"]
    assert (found["path"].path, found["labels"]) == (more, None)
    assert steps("raspberry-pi-5")["prune"].arguments["others"] is None


@pytest.mark.parametrize(
    ("table", "controls"),
    [
        ({}, 3),
        ({"prune__controls": 1}, 1),
        ({"prune__control": False}, 0),
        ({"prune__epochs": 0}, 0),
        ({"prune__control": False, "prune__keep_macs": "auto"}, 3),
        (
            {"prune__control": False, "prune__keep_macs": "auto", "prune__student": str(SAMPLE.parent / "model.keras")},
            0,
        ),
    ],
)
def test_every_seed_has_a_control_unless_fewer_are_wanted(table: dict[str, object], controls: int) -> None:
    """A search always has one: it is what amounts are held against. A student is taught as it is."""
    data = SAMPLE.parent / "data"
    wanted = {"data__train": str(data / "train.npz"), "prune__seeds": 3, "prune__control": True} | table
    found = steps("raspberry-pi-5", **wanted)
    assert found["prune"].arguments["settings"]["controls"] == controls


def test_without_labels_nothing_is_trained_to_compare_with() -> None:
    found = steps("raspberry-pi-5", data__train=None, prune__control=True)["prune"].arguments
    assert (found["labelled"], found["settings"]["controls"]) == (False, 0)
