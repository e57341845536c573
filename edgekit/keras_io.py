"""Load trained Keras models safely, and write `.keras` archives whose bytes depend on the model alone."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf

from edgekit import named_code
from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.keras_2 import modern
from edgekit.source.keras_config import custom_names

FIXED_DATE = (2000, 1, 1, 0, 0, 0)
FIXED_DATE_SAVED = "2000-01-01@00:00:00"
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_NOT_THE_MODEL = {"optimizer"}
_CONFIGURED = re.compile(r"(layers/[^/]+/)*vars")  # weights of layers that the configuration names
_custom: list[Path] = []  # what ``use_custom`` ran last


def use_custom(path: Path) -> None:
    """Run the user's file and let every model of this process be made of its classes and functions, by their names.

    Raises RecipeError where it cannot be imported.
    """
    _custom[:] = [path]
    module = named_code.run(path, "edgekit_custom_layers")
    found = {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("__")}
    keras.saving.get_custom_objects().update(found)


def custom_file() -> Path | None:
    """Return the file of ``use_custom``, for a process that this one starts; None without one."""
    return _custom[0] if _custom else None


def load(path: Path) -> keras.Model:
    """Read a `.keras` or `.h5` model in Keras' safe mode, without its optimizer.

    Raises RecipeError where there is no such file, UnsupportedError with Keras' reason where it refuses one.
    A refused file is never tried again with fewer checks.
    """
    if not path.is_file():
        raise RecipeError(f"There is no model at {path}.")
    try:
        with _spelled_for_keras_3(path) as file:
            return keras.saving.load_model(file, _aliases(path), compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a parser of a stranger's file may raise
        raise UnsupportedError(
            f"{path} cannot be loaded: {_reason(error)}",
            "Build it of standard keras layers, and save it again with model.save('model.keras') in Keras 3.",
        ) from error


def save(model: keras.Model, path: Path) -> None:
    """Write ``model`` as a `.keras` file, without optimizer and compile state; equal models give equal bytes.

    Keras stamps the saving time into the metadata and each zip entry, and numbers shared objects in the
    configuration by their address in memory. The file is whole or absent.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        raw, pinned = Path(folder, "raw.keras"), Path(folder, "pinned.keras")
        model.save(raw)
        with zipfile.ZipFile(raw) as archive:
            entries = {name: archive.read(name) for name in sorted(archive.namelist())}
        entries[_METADATA] = _pinned_metadata(entries[_METADATA])
        entries[_CONFIG] = _pinned_config(entries[_CONFIG])
        entries[_WEIGHTS] = _model_weights_alone(entries[_WEIGHTS])
        with zipfile.ZipFile(pinned, "w", zipfile.ZIP_STORED) as archive:
            for name, content in entries.items():
                archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), content)
        os.replace(pinned, path)


def deterministic(seed: int) -> None:
    """Make everything TensorFlow does from here on repeatable; call it before the first op runs.

    Two branches of a graph computed at once share oneDNN's threads, which changes the order of its sums:
    hence one op at a time.
    """
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _aliases(path: Path) -> dict[str, Any]:
    """Return the user's own classes under the names that a file has for them: a package may stand in front."""
    known = keras.saving.get_custom_objects()
    if not known:
        return {}
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(_CONFIG))
    else:
        with h5py.File(path, "r") as file:
            config = json.loads(file.attrs["model_config"])
    return {alias: known[name] for alias, name in custom_names(config).items() if name in known}


@contextmanager
def _spelled_for_keras_3(path: Path) -> Iterator[Path]:
    """Yield the file, or for an `.h5` with spellings of Keras 2 a copy whose configuration has today's."""
    if path.suffix == ".keras":
        yield path
        return
    with h5py.File(path, "r") as file:
        written = json.loads(file.attrs["model_config"])
    config = modern(written)
    if config == written:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        copy = Path(shutil.copyfile(path, Path(folder, "model.h5")))
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
        yield copy


def _pinned_metadata(content: bytes) -> bytes:
    return json.dumps({**json.loads(content), "date_saved": FIXED_DATE_SAVED}, sort_keys=True).encode()


def _pinned_config(content: bytes) -> bytes:
    """Drop the compile state, and number shared objects 1, 2, ... by appearance; Keras only compares them."""
    config = json.loads(content)
    config.pop("compile_config", None)
    numbers: dict[str, int] = {}

    def number_of(match: re.Match[str]) -> str:
        return f"{match[1]}{numbers.setdefault(match[2], len(numbers) + 1)}"

    return re.sub(r'("shared_object_id": )(\d+)', number_of, json.dumps(config)).encode()


def _model_weights_alone(content: bytes) -> bytes:
    """Copy the weights group by group, so that what training left beside them is not in the bytes.

    Layers inside layers (the softmax of an attention) are numbered through the whole process and not part of
    the configuration: their names, which Keras writes and never reads, go.
    """
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as source, h5py.File(buffer, "w") as target:
        source.visititems(lambda name, item: _copy(name, item, target))
    return buffer.getvalue()


def _copy(name: str, item: h5py.Group | h5py.Dataset, target: h5py.File) -> None:
    if name.split("/")[0] in _NOT_THE_MODEL:
        return
    if isinstance(item, h5py.Dataset):
        item.parent.copy(item, target[item.parent.name], name.split("/")[-1])
        return
    group = target.create_group(name)
    for key, value in sorted(item.attrs.items()):
        if key != "name" or _CONFIGURED.fullmatch(name):
            group.attrs[key] = value


def _reason(error: Exception) -> str:
    """Return the first line of the innermost cause: Keras wraps a layer's error in those of its models."""
    innermost = str(error).rsplit("Exception encountered: ", 1)[-1].strip()
    lines = innermost.splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
