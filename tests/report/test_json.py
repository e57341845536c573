"""report.json: the same bytes every time, read back whole, refused when it is something else."""

from __future__ import annotations

import json as std_json
import math
from pathlib import Path

import jsonschema
import pytest
from report_example import example

from edgekit.errors import RecipeError, StageError
from edgekit.report import json


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.render(example()), encoding="utf-8")
    assert json.load(path) == example()


def test_same_report_same_bytes_and_a_final_newline() -> None:
    text = json.render(example())
    assert text == json.render(example())
    assert text.endswith("}\n")
    assert text.startswith('{\n  "schema_version": 1,')


def test_report_validates_against_its_schema() -> None:
    validator = jsonschema.Draft202012Validator(json.json_schema())
    jsonschema.Draft202012Validator.check_schema(json.json_schema())
    data = std_json.loads(json.render(example()))
    validator.validate(data)
    del data["targets"][0]["sentence"]
    assert not validator.is_valid(data)


def test_nan_is_refused() -> None:
    with pytest.raises(StageError, match="NaN"):
        json.render(example().model_copy(update={"duration_s": math.nan}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1, 2]", "no schema_version"),
        ("{}", "no schema_version"),
        ('{"schema_version": 2}', "schema_version 2"),
        ('{"schema_version": 1, "name": "x"}', "Field required"),
        ('{"schema_version": 1', "not JSON"),
    ],
)
def test_garbage_is_a_recipe_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message) as caught:
        json.load(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_binary_and_missing_files_are_recipe_errors(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("binary", "nowhere"):
        with pytest.raises(RecipeError):
            json.load(tmp_path / name)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.render(example()).replace('"name"', '"nmae"', 1), encoding="utf-8")
    with pytest.raises(RecipeError, match="problems in all"):
        json.load(path)
