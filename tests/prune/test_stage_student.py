"""A network of the user's own is taught instead of cutting, and a teacher may be another network than the model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgekit import keras_io, worker
from edgekit.artifact import digest
from edgekit.errors import RecipeError
from edgekit.recipe import TaskTable
from edgekit.recipe.prune import PruneTable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
IDENTITY = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}


def network(width: int, outputs: int = 10) -> keras.Model:
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(width, 3, activation="relu", name=f"conv_{width}")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(outputs, activation="softmax", name="classes")(x))


def taught(
    folder: Path, student: Path | None, teacher: Path | None, count: int = 24, **settings: Any
) -> dict[str, Any]:
    """Run the stage on ``count`` unlabelled samples in a process of its own."""
    samples = np.random.default_rng(0).random((count, 12, 12, 3), np.float32)
    np.savez(folder / "samples.npz", x=samples)
    for name in ("out", "work"):
        (folder / name).mkdir()
    table = PruneTable(importance="taylor", moved_share=0.0, epochs=2, batch=8, cost="macs", min_channels=8, round_to=8)
    return worker.run(
        "edgekit.prune.stage:run",
        {"work": folder / "work", "model": folder / "model.keras", "labelled": False, "adapter": None,
         "dataset": {"kind": "npz", "path": folder / "samples.npz", "labels": None, "classes": [],
                     "preprocess": IDENTITY},
         "task": TaskTable(kind="classification").model_dump(mode="json"), "teacher": teacher, "student": student,
         "costs": [], "precisions": ["float32"],
         "settings": table.model_dump(mode="json") | {"controls": 0} | settings,
         "aim": {"accuracy_drop": 100.0, "speedup": None, "latency_ms": None, "slack": 1.5}},
        folder / "out", lambda done, text: None, label="prune",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keras.utils.set_random_seed(0)
    keras_io.save(network(64), tmp_path / "model.keras")
    return tmp_path


def test_a_smaller_network_of_the_users_is_taught(folder: Path) -> None:
    small = network(8)
    keras_io.save(small, folder / "student.keras")
    found = taught(folder, folder / "student.keras", None)
    made = keras_io.load(folder / "out" / "pruned.keras")
    assert made.count_params() == small.count_params() == found["parameters_after"]
    assert found["chosen"] == "student-seed-0"
    assert found["macs_after"] < found["macs_before"]
    assert found["exactness_error"] is None, "nothing was cut that could be exact"
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(made.weights, small.weights, strict=True))


def test_a_student_is_taught_for_all_its_epochs_and_once_for_each_seed(folder: Path) -> None:
    """``minutes`` are for a search of the amount, which a student has none of."""
    keras_io.save(network(8), folder / "student.keras")
    found = taught(folder, folder / "student.keras", None, seed=3, seeds=2, minutes=1e-6)
    assert [one["name"] for one in found["tried"]] == ["student-seed-3", "student-seed-4"]
    assert {one["epochs"] for one in found["tried"]} == {2}
    assert found["notes"] == []
    files = [folder / "out/curve" / f"student-seed-{seed}.keras" for seed in (3, 4)]
    assert digest(files[0]) == digest(folder / "out/pruned.keras") != digest(files[1])


def test_a_student_with_other_outputs_is_refused(folder: Path) -> None:
    keras_io.save(network(8, outputs=4), folder / "student.keras")
    with pytest.raises(RecipeError, match=r"student\.keras takes"):
        taught(folder, folder / "student.keras", None)


def test_without_labels_the_amount_is_found_by_agreement_with_the_model(folder: Path) -> None:
    keras_io.save(network(40), folder / "teacher.keras")
    found = taught(folder, None, folder / "teacher.keras")
    assert found["judged_by"] == "agreement, against the unpruned model"
    assert found["recovery"] == "distillation"
    assert found["chosen"].startswith("keep-")
    amounts = [item["macs"] for item in found["tried"]]
    assert len(set(amounts)) == len(amounts) >= 2  # no share is trained that leaves what another left


@pytest.mark.parametrize(
    ("count", "settings", "why"),
    [
        (24, {"min_channels": 64}, r"No channel of this model can be cut .* of 'conv_64', are 64"),
        (8, {}, "too few samples to hold any apart"),
    ],
    ids=["too-narrow", "few-samples"],
)
def test_where_no_amount_can_be_searched_for_the_model_goes_on_as_it_is(
    count: int, settings: dict[str, Any], why: str, folder: Path
) -> None:
    found = taught(folder, None, None, count, **settings)
    assert (folder / "out/pruned.keras").read_bytes() == (folder / "model.keras").read_bytes()
    assert found["macs_after"] == found["macs_before"] > 0
    assert found["tried"] == []
    assert (found["exactness_error"], found["training_samples"]) == (None, 0), "nothing was cut, nothing learned"
    assert re.search(why, found["notes"][-1])
