"""edgekit.toml: every mistake at once, each with its key; what is right comes back exactly."""

from pathlib import Path
from typing import Any

import pytest

from edgekit import recipe
from edgekit.errors import RecipeError
from edgekit.recipe.prune import PruneTable

SAMPLES = Path(__file__).parents[2] / "sample_models"

LEAST = """
schema = 1
[model]
path = "model.keras"
[data]
kind = "npz"
test = "test.npz"
calibration = "/elsewhere/calibration.npz"
[targets]
names = ["raspberry-pi-4", "boards/own.toml"]
"""


def load(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> recipe.Recipe:
    (folder / "edgekit.toml").write_text(text)
    return recipe.load(folder / "edgekit.toml", overrides)


def mistakes(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(folder, text, overrides)
    first, *lines = caught.value.message.splitlines()
    assert f"{folder / 'edgekit.toml'} has {len(lines)} mistake" in first
    assert "edgekit schema" in caught.value.hint
    return [line.strip() for line in lines]


def test_the_least_recipe_is_a_full_build(tmp_path: Path) -> None:
    found = load(tmp_path, LEAST)
    assert found.prune.enabled
    assert found.quantize.enabled
    assert found.budget.accuracy_drop == 1.0
    assert found.task.kind == "generic"


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    found = load(tmp_path, LEAST)
    assert found.model.path == tmp_path / "model.keras"
    assert found.data.test == tmp_path / "test.npz"
    assert found.data.calibration == Path("/elsewhere/calibration.npz")
    assert found.targets.names == ("raspberry-pi-4", str(tmp_path / "boards/own.toml"))


@pytest.mark.parametrize("name", ["digits_detector", "fashion_classifier", "text_encoder"])
def test_the_samples_recipes_are_valid_and_name_what_exists(name: str) -> None:
    found = recipe.load(SAMPLES / name)  # the folder stands for its edgekit.toml
    named = [found.model.path, found.task.adapter, *(v for _, v in found.data if isinstance(v, Path))]
    assert [path for path in named if path is not None and not path.exists()] == []


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = LEAST + '[prune]\nkeep_mac = 0.5\nepochs = -1\nround_to = "x"\n[quantise]\nenabled = true\n'
    assert sorted(mistakes(tmp_path, text)) == [
        "prune.epochs: Input should be greater than or equal to 0 (found -1)",
        "prune.keep_mac: unknown key; did you mean 'keep_macs'?",
        "prune.round_to: Input should be a valid integer, unable to parse string as an integer or Input should"
        " be 'auto' (found 'x')",
        "quantise: unknown key; did you mean 'quantize'?",
    ]


def test_a_key_that_resembles_nothing_gets_no_suggestion(tmp_path: Path) -> None:
    assert mistakes(tmp_path, LEAST + "[budget]\nxyzzy = 1\n") == ["budget.xyzzy: unknown key"]


def test_an_empty_file(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "") == [f"{key}: is needed and missing" for key in ("model", "data", "targets")]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schema = 1", "schema = 2", "schema: Input should be 1 (found 2)"),
        ('kind = "npz"', 'kind = "nzp"', "data.kind: Input should be 'coco', 'imagefolder' or 'npz' (found 'nzp')"),
        ('kind = "npz"', 'kind = "coco"', 'data: test_labels is needed when kind = "coco"'),
        (
            'kind = "npz"',
            'kind = "coco"\ntrain = "a"\ntest_labels = "b"',
            'data: train_labels is needed when kind = "coco" and train is given',
        ),
        (
            'kind = "npz"',
            'kind = "npz"\ntest_labels = "b"',
            'data: test_labels and train_labels are for kind = "coco" only',
        ),
        ('"boards/own.toml"', '"raspberry-pi-4"', "targets: 'raspberry-pi-4' is named twice"),
    ],
)
def test_contradictions(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert mistakes(tmp_path, LEAST.replace(old, new)) == [expected]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("budget", "accuracy_drop = nan"),
        ("budget", "accuracy_drop = 0"),
        ("budget", "latency_ms = inf"),
        ("preprocess", "size = [0, 32]"),
        ("preprocess", "size = [32]"),
        ("preprocess", "mean = []"),
        ("preprocess", "scale = [nan]"),
        ("preprocess", "mean = [1.0, 2.0]\nscale = [1.0, 2.0, 3.0]"),
        ("prune", "keep_macs = 1.0"),
        ("prune", "seeds = 2\ncontrols = 3"),
        ("prune", "control = false\ncontrols = 1"),
        ("prune", "student = 's.keras'\nkeep_macs = 0.5"),
        ("quantize", "calibration_samples = 0"),
        ("task", "adapter = 3"),
        ("profile", "min_seconds = 5.0\nmax_seconds = 1.0"),
    ],
)
def test_values_that_mean_nothing(tmp_path: Path, table: str, line: str) -> None:
    found = mistakes(tmp_path, f"{LEAST}[{table}]\n{line}\n")
    assert found
    assert all(mistake.startswith(table) for mistake in found)


def test_no_targets(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, LEAST.split("[targets]")[0] + "[targets]\nnames = []\n")
    assert mistake.startswith("targets.names: ")


def test_flags_override_the_file_and_are_checked_like_it(tmp_path: Path) -> None:
    found = load(tmp_path, LEAST, {"model.path": Path("/m.onnx"), "prune.enabled": False, "targets.names": ["browser"]})
    assert (found.model.path, found.prune.enabled, found.targets.names) == (Path("/m.onnx"), False, ("browser",))
    assert mistakes(tmp_path, LEAST, {"prune.epochs": -3})[0].startswith("prune.epochs")
    text = LEAST.replace('[model]\npath = "model.keras"', "model = 3")
    assert mistakes(tmp_path, text, {"model.path": Path("/m.onnx")})[0].startswith("model: ")


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe") as caught:
        recipe.load(tmp_path)
    assert "edgekit schema recipe" in caught.value.hint
    with pytest.raises(RecipeError, match="not valid TOML"):
        load(tmp_path, "[model\n")
    (tmp_path / "edgekit.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="Cannot read"):
        recipe.load(tmp_path)
    with pytest.raises(RecipeError, match="Cannot read"):
        recipe.load(tmp_path / "edgekit.toml" / "below-a-file")


def test_the_fingerprint_is_of_what_is_said_not_of_where(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
    text = LEAST.replace(', "boards/own.toml"', "")
    one, two = (recipe.fingerprint(load(place, text)) for place in places)
    assert one == two
    assert one != recipe.fingerprint(load(tmp_path, text + "[prune]\nseed = 1\n"))


def test_check_tolerances_are_a_number_a_pair_or_off(tmp_path: Path) -> None:
    tables = """[check]
accuracy_points = 1
size_percent = [5, 20]
speedup_percent = false
[check.targets.own]
latency_percent = 10
"""
    found = load(tmp_path, LEAST + tables).check
    assert found.of("accuracy_points", "raspberry-pi-4") == (1, 1)
    assert found.of("size_percent", "own (onnx)") == (5, 20)
    assert found.of("speedup_percent", "own") is None
    assert found.of("latency_percent", "raspberry-pi-4") is None
    assert found.of("latency_percent", "own (onnx)") == (10, 10)


@pytest.mark.parametrize("value", ["true", "-1", "[1]", "[1, 2, 3]", '"5"', "nan", "inf"])
def test_a_tolerance_that_is_none_is_a_mistake(tmp_path: Path, value: str) -> None:
    [line] = mistakes(tmp_path, LEAST + f"[check]\nsize_percent = {value}\n")
    assert line.startswith("check.size_percent: write a number, [worse, better], or false")


def test_tolerances_of_a_target_that_is_not_built_are_a_mistake(tmp_path: Path) -> None:
    text = LEAST.replace(', "boards/own.toml"', "") + "[check.targets.raspbery-pi-4]\nsize_percent = 1\n"
    [line] = mistakes(tmp_path, text)
    assert "'raspbery-pi-4' is none of the recipe's targets: raspberry-pi-4" in line


def test_images_move_in_long_recoveries_alone() -> None:
    assert PruneTable().steps_moved == 0.0
    assert PruneTable(epochs=24).steps_moved == 1.0
    assert PruneTable(epochs=40, moved_share=0.25).steps_moved == 0.25
