"""Boards are facts with sources; a user's own board is one file."""

from pathlib import Path

import pytest

from edgekit import target
from edgekit.errors import RecipeError

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[1] / "targets").glob("*.toml"))


def test_every_shipped_file_is_a_target() -> None:
    assert target.names() == SHIPPED
    assert {"raspberry-pi-4", "jetson-orin-nano", "pixel-8", "browser"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_target_is_complete(name: str) -> None:
    found = target.load(name)
    assert found.name == name
    assert found.primary == found.outputs[0]
    assert all(source.startswith("https://") for source in found.sources)
    assert all(output.why and output.runtime for output in found.outputs)
    kinds = [(output.format, output.precision, output.scheme) for output in found.outputs]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_target_has_a_float_output_to_fall_back_on(name: str) -> None:
    assert {"float32", "float16"} & {output.precision for output in target.load(name).outputs}


@pytest.mark.parametrize("name", SHIPPED)
def test_quantized_onnx_says_how_it_is_written(name: str) -> None:
    for output in target.load(name).outputs:
        assert bool(output.scheme) == (output.format == "onnx" and output.precision == "int8"), output


def own(folder: Path, old: str = "", new: str = "") -> Path:
    text = (Path(__file__).parents[1] / "targets" / "raspberry-pi-4.toml").read_text()
    assert old in text
    path = folder / "my-board.toml"
    path.write_text(text.replace(old, new, 1) if old else text)
    return path


def test_a_users_own_board_is_named_by_its_path(tmp_path: Path) -> None:
    found = target.load(str(own(tmp_path, 'name = "raspberry-pi-4"', 'name = "my-board"')))
    assert (found.name, found.threads) == ("my-board", 4)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("threads = 4", "threads = 0", "threads: "),
        ("threads = 4", "threds = 4", "threds: "),
        ('format = "tflite"', 'format = "coreml"', "outputs.0.format: "),
        ('kind = "ssh"', 'kind = "telnet"', "device.kind: "),
        ("schema = 1", "schema = 9", "schema: "),
        ("sources = [", "sources = []\nold = [", "sources: "),
    ],
)
def test_mistakes_in_a_board_are_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(RecipeError, match="is not a valid target") as caught:
        target.load(str(own(tmp_path, old, new)))
    assert f"  {expected}" in caught.value.message
    assert "edgekit targets" in caught.value.hint


@pytest.mark.parametrize(("typo", "meant"), [("raspbery-pi-4", "raspberry-pi-4"), ("Browser", "browser")])
def test_a_misspelt_target(typo: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=f"Did you mean '{meant}'"):
        target.load(typo)


@pytest.mark.parametrize("name", ["", "../targets/browser", "/etc/passwd", "zzzzzz"])
def test_other_names_are_no_targets(name: str) -> None:
    with pytest.raises(RecipeError, match="There is no target named") as caught:
        target.load(name)
    assert "my-board.toml" in caught.value.hint


def test_files_that_are_no_target(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no target file"):
        target.load(str(tmp_path / "none.toml"))
    with pytest.raises(RecipeError, match="no target file"):
        target.load(".toml")
    for content in (b"[", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(RecipeError, match="not valid TOML"):
            target.load(str(tmp_path / "bad.toml"))
