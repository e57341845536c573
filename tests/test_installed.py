"""Versions: what is needed, what fits, and a lock file that round-trips and refuses what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from project import edgekit

from edgekit import __version__, installed
from edgekit.errors import DependencyError, RecipeError
from edgekit.installed import Need


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        ("==1.2", "1.2", True),
        ("==1.2", "1.3", False),
        (">=2,<3", "2.9", True),
        (">=2,<3", "3.0", False),
        ("", "", False),
    ],
)
def test_what_fits_and_the_cure(wanted: str, found: str, fits: bool) -> None:
    need = Need("some-library", wanted, found)
    assert need.fits == fits
    assert need.cure == ("" if fits else f"pip install 'some-library{wanted}'")


def test_this_environment_has_what_edgekit_needs() -> None:
    found = {need.name: need for need in installed.needs()}
    assert {"keras", "onnx", "typer"} <= found.keys()
    assert [need.name for need in found.values() if not need.fits] == []


def test_a_lock_holds_indirect_libraries_and_is_pip_requirements(tmp_path: Path) -> None:
    text = installed.lock()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(len(Requirement(line).specifier) == 1 for line in lines)
    assert len(lines) > len(installed.needs())
    assert f"# edgekit {__version__}" in text
    path = tmp_path / "edgekit.lock"
    path.write_text(text)
    assert installed.differences(path) == []
    installed.refuse_others(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (f"# edgekit {__version__}", "# edgekit 9.9", "edgekit: "),
        ("# python 3", "# python 2", "python: "),
        ("numpy==", "numpy==0", "numpy: "),
        ("onnx==", "not-a-library==", "not-a-library: not installed"),
    ],
)
def test_a_lock_refuses_what_differs(old: str, new: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "edgekit.lock"
    assert old in installed.lock()
    path.write_text(installed.lock().replace(old, new, 1))
    with pytest.raises(DependencyError) as refused:
        installed.refuse_others(path)
    assert named in refused.value.message
    assert "pip install -r" in refused.value.hint


@pytest.mark.parametrize("text", ["", "numpy>=1\n", "# edgekit\n", "\xff"])
def test_what_is_no_lock_file_is_a_recipe_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "edgekit.lock"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"edgekit\.lock"):
        installed.differences(path)


def test_lock_and_env_commands(tmp_path: Path) -> None:
    done = edgekit("lock", tmp_path / "my.lock")
    assert done.code == 0, done.err
    assert (tmp_path / "my.lock").read_text() == installed.lock()
    assert edgekit("lock", tmp_path).code == 5
    done = edgekit("env")
    assert done.code == 0, done.out
    assert "onnxruntime" in done.out
