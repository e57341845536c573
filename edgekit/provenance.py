"""Where a build came from: the versions, the machine, the data and the recipe behind every figure."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

from edgekit import __version__, pipeline, recipe
from edgekit.errors import RecipeError
from edgekit.report import schema as data
from edgekit.runtimes.facts import facts
from edgekit.store import key_of
from edgekit.target import Target

LIBRARIES = (
    "tensorflow-cpu", "tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxruntime", "tf2onnx",
    "numpy",
)  # fmt: skip


def environment() -> data.Environment:
    """Return the versions and the machine."""
    machine = facts()
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return data.Environment(
        edgekit=__version__, python=platform.python_version(), system=machine["system"], machine=machine["machine"],
        cpu=machine["cpu"], cores=machine["cores"], memory_bytes=machine["memory_bytes"], libraries=found,
    )  # fmt: skip


def identity(wanted: recipe.Recipe, path: Path, targets: Sequence[Target], *, learns: bool) -> data.Identity:
    """Return what must be equal in two reports that are compared; ``learns``: the training samples were read."""
    table = wanted.data
    path = path / recipe.FILE_NAME if path.is_dir() else path
    return data.Identity(
        recipe=path.name if path.is_absolute() else path.as_posix(),
        targets=[item.name for item in targets],
        test_sha256=content_of(table.test, table.test_labels),
        calibration_sha256=content_of(table.calibration),
        train_sha256=content_of(table.train, table.train_labels, table.unlabelled) if learns and table.train else "",
    )


def content_of(*paths: Path | None) -> str:
    """Return one sha256 of the content of files or folders; "" where one of them is gone."""
    try:
        return key_of([pipeline.known_digest(path) for path in paths if path])
    except RecipeError:  # the step that needed it has said so
        return ""
