"""Give a Keras model's or SavedModel's open sizes the numbers it is to run at, before anything else is done with it."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

from edgekit import keras_io
from edgekit.convert import float_graph
from edgekit.errors import RecipeError
from edgekit.progress import Progress
from edgekit.source.keras_config import input_configs, shape_key

_CONFIG = "config.json"


def run(*, out: Path, progress: Progress, model: Path, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Write a Keras model as ``model.keras`` with ``shapes``; its batch stays open, for training.

    Raises RecipeError for an input that is not there, UnsupportedError with Keras' words where a layer cannot have
    such an input.
    """
    progress(0.1, "fixing the sizes")
    with tempfile.TemporaryDirectory(dir=out) as folder:
        network = keras_io.load(_rewritten(model, Path(folder), shapes))
    keras_io.save(network, out / "model.keras")
    return {}


def saved_model(
    *, out: Path, progress: Progress, model: Path, shapes: dict[str, list[int]], signature: str
) -> dict[str, Any]:
    """Write one signature of a SavedModel as ``saved_model`` with ``shapes`` and batch 1."""
    progress(0.1, "fixing the sizes")
    float_graph.resign(model, out / "saved_model", signature, shapes)
    return {}


def _rewritten(model: Path, folder: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """Copy the file with other input layers: Keras works all shapes behind them out anew."""
    copy = folder / model.name
    if model.suffix == ".keras":
        with zipfile.ZipFile(model) as old, zipfile.ZipFile(copy, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, _with_shapes(content, shapes, model) if name == _CONFIG else content)
        return copy
    shutil.copyfile(model, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = _with_shapes(file.attrs["model_config"], shapes, model)
    return copy


def _with_shapes(text: str | bytes, shapes: Mapping[str, Sequence[int]], model: Path) -> str:
    config = json.loads(text)
    found = {str(entry.get("name", "")): entry for entry in input_configs(config)}
    missing = sorted(shapes.keys() - found.keys())
    if missing:
        raise RecipeError(f"{model.name} has no input {missing[0]!r}.", f"Its inputs: {', '.join(found) or 'unknown'}.")
    for name, shape in shapes.items():
        found[name][shape_key(found[name])] = [None, *shape[1:]]
    if "build_input_shape" in config["config"] and len(shapes) == 1:
        config["config"]["build_input_shape"] = [None, *next(iter(shapes.values()))[1:]]
    return json.dumps(config)
