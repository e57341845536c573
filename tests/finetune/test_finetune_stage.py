"""A network that int8 ruins is trained back, in both formats, by what neither judges nor scores it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import finetune_networks as networks
import keras
import numpy as np
import pytest
from project import FASHION

from edgekit import worker
from edgekit.convert.finish import reference_of
from edgekit.convert.stage import float_artifact, float_model
from edgekit.finetune import stage
from edgekit.quantize.plan import Plan
from edgekit.search import stage as search
from edgekit.search.problem import SENSITIVE
from edgekit.search.stage import Split
from edgekit.search.trial import EMITTERS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras with NumPy 2
]

SAMPLES = 240
SETTINGS = {"epochs": 20, "learning_rate": 1e-3, "seed": 0}
SCHEMES = {"tflite": "litert", "onnx": "cpu"}
PREPROCESS = {"size": None, "color": "gray", "mean": [0.0], "scale": [1 / 255]}


def silent(done: float, text: str) -> None:
    """Take progress and do nothing."""


@dataclass(frozen=True)
class Case:
    """A Keras network with uneven channels, its float files, and what a search with time for one plan found."""

    folder: Path
    dataset: dict[str, Any]
    images: np.ndarray
    labels: np.ndarray

    @property
    def model(self) -> Path:
        return self.folder / "model.keras"

    def float_file(self, format: str) -> Path:
        return self.folder / "float" / f"model.{format}"

    def searched(self, format: str) -> dict[str, Path]:
        return {name: self.folder / format / name for name in ("plan.json", "result.json", f"model.{format}")}

    def searching(self, format: str) -> dict[str, Any]:
        return {
            "model": self.float_file(format), "format": format, "precision": "int8", "scheme": SCHEMES[format],
            "dataset": self.dataset, "samples": 128, "task": {"kind": "classification", "scores_output": "classes"},
            "target_loss": 0.01, "seconds": 1e-3,
        }  # fmt: skip

    def results(self) -> list[dict[str, Path]]:
        return [self.searched(format) for format in SCHEMES]

    def scored(self, path: Path, format: str) -> tuple[float, np.ndarray]:
        """Return the top-1 accuracy of a file in its runtime on the test images, and its probabilities."""
        [made] = reference_of(path, format, {"image": self.images}).values()
        return float((made.argmax(axis=1) == self.labels).mean()), made


def _arrays(name: str, count: int) -> dict[str, np.ndarray]:
    with np.load(FASHION / "data" / f"{name}.npz") as stored:
        return {key: stored[key][:count] for key in stored.files}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("finetune")
    keras.utils.set_random_seed(0)
    model = networks.depthwise_classifier()
    train = _arrays("train", 3000)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(train["x"] / np.float32(255), train["y"], batch_size=64, epochs=4, verbose=0)
    networks.rescale_channels(model, 7, seed=1)
    model.save(folder / "model.keras")
    np.savez(folder / "calibration.npz", x=_arrays("calibration", SAMPLES)["x"])
    dataset = {"kind": "npz", "path": folder / "calibration.npz", "preprocess": PREPROCESS}
    test = _arrays("test", 300)
    found = Case(folder, dataset, test["x"] / np.float32(255), test["y"])
    for name in ("float", *SCHEMES):
        (folder / name).mkdir()
    float_model(
        out=folder / "float", progress=silent, model=found.model, source="keras", dataset=dataset, samples=4
    )  # fmt: skip
    for format in SCHEMES:
        float_artifact(
            out=folder / "float", progress=silent, saved_model=folder / "float/saved_model", format=format,
            reference=folder / "float/reference.npz", inputs=folder / "float/inputs.npz", precision="float32",
            tolerance=1e-4,
        )  # fmt: skip
        result = search.run(out=folder / format, progress=silent, **found.searching(format))
        found.searched(format)["result.json"].write_text(json.dumps(result))
    return found


def tune(
    case: Case, out: Path, results: list[dict[str, Path]], dataset: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run the step in a child process, as a build does."""
    out.mkdir()
    arguments = {
        "model": case.model, "searches": results, "dataset": dataset or case.dataset, "samples": 128,
        "parity_samples": 4, "settings": SETTINGS,
    }  # fmt: skip
    return worker.run("edgekit.finetune.stage:run", arguments, out, silent, label="fine-tune")


@pytest.fixture(scope="module")
def tuned(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "out"
    result = tune(case, out, case.results())
    assert result["needed"]
    assert result["trained"]
    assert result["distance_after"] < 0.7 * result["distance_before"]
    return out / stage.STUDENT


def choose(case: Case, format: str, student: Path, out: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    arguments = case.searching(format) | {"searched": case.searched(format), "student": student, "tolerance": 1e-4}
    return stage.choose(out=out, progress=silent, **arguments)


@pytest.mark.parametrize("format", SCHEMES)
def test_what_int8_ruined_is_trained_back(case: Case, tuned: Path, tmp_path: Path, format: str) -> None:
    first = json.loads(case.searched(format)["result.json"].read_text())
    assert not first["reached"]
    result = choose(case, format, tuned, tmp_path / "out")
    plan = Plan.from_json((tmp_path / "out/plan.json").read_text())
    assert SENSITIVE not in {item.reason for item in plan.decisions}, "nothing was left float to get there"
    assert result["finetune"]["kept"]
    assert result["loss"] < 0.7 * first["loss"]
    assert "fine-tuned on" in plan.notes[-1]
    assert plan.notes[-1] in result["notes"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plan.json", f"model.{format}"}

    files = {}
    for name, folder in (("before", case.folder / format), ("after", tmp_path / "out")):
        content = (folder / f"model.{format}").read_bytes()
        files[name] = tmp_path / f"{name}.{format}"
        files[name].write_bytes(EMITTERS[format](content, Plan.from_json((folder / "plan.json").read_text())))
    right, expected = case.scored(case.float_file(format), format)
    before, ruined = case.scored(files["before"], format)
    after, repaired = case.scored(files["after"], format)
    lost = [0.5 * np.abs(made - expected).sum(axis=1).mean() for made in (ruined, repaired)]
    print(
        f"{format}: top-1 float {right:.3f}, int8 {before:.3f}, fine-tuned {after:.3f}; lost {lost}; {result['loss']}"
    )
    assert lost[1] < 0.75 * lost[0], "on images that neither trained nor judged"
    assert after > before


def test_what_judges_is_never_learned_from_and_a_seed_repeats(case: Case, tuned: Path, tmp_path: Path) -> None:
    """Other images in the places that judge plans: the student is the same to the byte."""
    with np.load(case.dataset["path"]) as stored:
        x = stored["x"]
    held = list(Split.of(SAMPLES, 128).held)
    x[held] = np.random.default_rng(0).integers(0, 255, x[held].shape, np.uint8)
    np.savez(tmp_path / "other.npz", x=x)
    tune(case, tmp_path / "out", case.results(), case.dataset | {"path": tmp_path / "other.npz"})
    digests = {hashlib.sha256((path / "model.keras").read_bytes()).hexdigest() for path in
               (tuned, tmp_path / "out" / stage.STUDENT)}  # fmt: skip
    assert len(digests) == 1


def test_where_every_search_reached_its_aim_nothing_is_trained(case: Case, tmp_path: Path) -> None:
    reached = tmp_path / "result.json"
    first = json.loads(case.searched("onnx")["result.json"].read_text())
    reached.write_text(json.dumps(first | {"reached": True}))
    (tmp_path / "out").mkdir()
    result = stage.run(
        out=tmp_path / "out", progress=silent, model=case.model, dataset=case.dataset,
        searches=[case.searched("onnx") | {"result.json": reached}],
        samples=128, parity_samples=4, settings=SETTINGS,
    )  # fmt: skip
    assert result == {"needed": False, "trained": False}
    assert [path.name for path in (tmp_path / "out/student").iterdir()] == [stage.SUMMARY]


def test_a_student_that_measures_no_better_is_not_used(case: Case, tuned: Path, tmp_path: Path) -> None:
    copy = Case(Path(shutil.copytree(case.folder, tmp_path / "case")), case.dataset, case.images, case.labels)
    path = copy.searched("onnx")["result.json"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"loss": 1e-6}))
    result = choose(copy, "onnx", tuned, tmp_path / "out")
    assert not result["finetune"]["kept"]
    assert result["loss"] == 1e-6
    assert any("bought nothing" in note for note in result["notes"])
    assert (tmp_path / "out/model.onnx").read_bytes() == copy.searched("onnx")["model.onnx"].read_bytes()


def test_training_that_comes_no_closer_is_said_and_not_searched_again(case: Case, tmp_path: Path) -> None:
    student = tmp_path / "student"
    student.mkdir()
    (student / stage.SUMMARY).write_text(json.dumps({"needed": True, "trained": False, "samples": 3}))
    result = choose(case, "tflite", student, tmp_path / "out")
    assert any("no closer" in note for note in result["notes"])
    assert not result["finetune"]["kept"]
