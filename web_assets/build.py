"""Build the data wheel ``edgekit-web-assets``: the pinned npm packages that the browser page runs.

``python web_assets/build.py DIST`` needs npm and hatchling, and nothing else. A package whose integrity hash, or a
file whose sha256, is not the one in ``edgekit/runtimes/web/assets.toml`` ends it. The same pins give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PINS = HERE.parent / "edgekit/runtimes/web/assets.toml"
_TIMEOUT_S = 300


def build(dist: Path) -> Path:
    """Write the wheel into ``dist``, unless it is there, and return its path. Raises SystemExit with one sentence."""
    pins = tomllib.loads(PINS.read_text())
    wheel = dist / f"edgekit_web_assets-{pins['version']}-py3-none-any.whl"
    if wheel.is_file():
        return wheel
    if shutil.which("npm") is None:
        raise SystemExit("npm is needed to fetch the JavaScript; on Debian: apt-get install npm")
    with tempfile.TemporaryDirectory(prefix="edgekit-web-") as folder:
        tree = Path(folder) / "tree"
        package = tree / "edgekit_web_assets"
        for pinned in pins["packages"]:
            unpack(fetch(pinned, Path(folder)), pinned, package)
        (package / "__init__.py").write_text('"""LiteRT.js and onnxruntime-web, unchanged."""\n')
        project = (HERE / "pyproject.template.toml").read_text().replace("VERSION", pins["version"])
        (tree / "pyproject.toml").write_text(project)
        (tree / "NOTICE").write_text(notice(pins["packages"]))
        shutil.copyfile(HERE.parent / "LICENSE", tree / "LICENSE-Apache-2.0")
        shutil.copyfile(HERE / "LICENSE-MIT", tree / "LICENSE-MIT")
        dist.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        _call([*command, "--wheel-dir", str(dist.resolve()), str(tree)], tree)
    return wheel


def fetch(pinned: dict[str, Any], folder: Path) -> Path:
    """Return the package as npm packed it, its integrity hash checked."""
    wanted = f"{pinned['name']}@{pinned['version']}"
    download = folder / pinned["name"].replace("/", "-")
    download.mkdir()
    _call(["npm", "pack", "--silent", "--ignore-scripts", wanted], download)
    (archive,) = download.glob("*.tgz")
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != pinned["integrity"]:
        raise SystemExit(f"{wanted} is not the pinned one: its integrity is {found}")
    return archive


def unpack(archive: Path, pinned: dict[str, Any], package: Path) -> None:
    """Copy the pinned files out of the archive, each with its sha256 checked."""
    with tarfile.open(archive) as packed:
        for inside, (path, sha256) in pinned["files"].items():
            member = packed.extractfile(f"package/{path}")
            content = member.read() if member else b""
            if hashlib.sha256(content).hexdigest() != sha256:
                raise SystemExit(f"{path} of {pinned['name']} is not the pinned file")
            target = package / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def notice(packages: list[dict[str, Any]]) -> str:
    """Return what is inside, from where, under which licence."""
    lines = [f"{p['name']} {p['version']}, {p['license']}, {p['source']}" for p in packages]
    return "This wheel holds files of these npm packages, unchanged:\n\n" + "\n".join(lines) + "\n"


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} DIST")
    sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
