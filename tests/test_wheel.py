"""The wheel carries what edgekit needs at run time, and works where no checkout is."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgekit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the installed hatchling, so without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel: a site folder without the checkout."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _run(code: str, site: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_named_after_the_version(wheel: Path) -> None:
    assert wheel.name == f"edgekit-{edgekit.__version__}-py3-none-any.whl"


@pytest.mark.parametrize(("source", "inside"), [("edgekit", "edgekit"), ("targets", "edgekit/targets")])
def test_every_source_file_is_inside(source: str, inside: str, installed: Path) -> None:
    files = {path.relative_to(ROOT / source) for path in (ROOT / source).rglob("*") if path.is_file()}
    wanted = {path for path in files if "__pycache__" not in path.parts and not path.name.startswith(".")}
    assert wanted
    assert not {str(path) for path in wanted if not (installed / inside / path).is_file()}


def test_templates_and_licence_are_inside(installed: Path) -> None:
    assert (installed / "edgekit/report/page.css").stat().st_size > 0
    assert (installed / "edgekit/report/page.html").stat().st_size > 0
    assert (installed / "edgekit/report/page.js").stat().st_size > 0
    (licence,) = installed.glob("*.dist-info/licenses/LICENSE")
    assert "Apache License" in licence.read_text()


def test_nothing_else_is_inside(installed: Path) -> None:
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"edgekit"}


def test_the_command_is_registered(installed: Path) -> None:
    (path,) = installed.glob("*.dist-info/entry_points.txt")
    entry_points = configparser.ConfigParser()
    entry_points.read(path)
    assert dict(entry_points["console_scripts"]) == {"edgekit": "edgekit.cli:main"}


def test_shipped_targets_load_from_it(installed: Path) -> None:
    code = "from edgekit import target; print(target.__file__, *[target.load(n).name for n in target.names()])"
    place, *names = _run(code, installed).split()
    assert Path(place).is_relative_to(installed)
    assert sorted(names) == sorted(path.stem for path in (ROOT / "targets").glob("*.toml"))


def test_the_command_starts_from_it(installed: Path) -> None:
    code = "import sys; from edgekit.cli import main; sys.argv = ['edgekit', '--version']; sys.exit(main())"
    assert edgekit.__version__ in _run(code, installed)
