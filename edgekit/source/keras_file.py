"""Read `.keras` archives and Keras `.h5` files as data: the configuration, and the weights dataset by dataset."""

from __future__ import annotations

import json
import lzma
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

import h5py

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.info import MAX_BYTES, Contents, Input
from edgekit.source.keras_2 import modern
from edgekit.source.keras_config import check, inputs_of
from edgekit.source.keras_weights import Weights, scan

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_MAX_CONFIG_BYTES = 32 << 20  # as text; as objects in memory it is some twenty times that
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 50
_SAVE_AGAIN = "Copy the file again, or save it again with model.save('model.keras')."
# What zipfile and h5py raised for archives with random bytes overwritten; RuntimeError covers encrypted members.
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError)
_HDF5_DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError)


def read_archive(path: Path, own: frozenset[str] = frozenset()) -> Contents:
    """Check a `.keras` file. Raises RecipeError for a damaged one, UnsupportedError for what must not be loaded.

    ``own``: the names that the user's custom file defines.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            _check_version(archive, path)
            config = archive.read(_CONFIG)
            with tempfile.TemporaryFile() as weights:
                with archive.open(_WEIGHTS) as member:
                    shutil.copyfileobj(member, weights, 1 << 20)
                parsed = _parse(config, path)
                found = check(parsed, path, own)
                return _contents(found, _scan(weights, "", path), inputs_of(parsed))
    except _ZIP_DAMAGE as error:
        raise RecipeError(f"{path} is not a readable .keras file: {error} (truncated?)", _SAVE_AGAIN) from error


def read_hdf5(path: Path, own: frozenset[str] = frozenset()) -> Contents:
    """Check a Keras `.h5` file. Raises as ``read_archive`` does."""
    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
            has_weights = "model_weights" in file
            trained = "optimizer_weights" in file
    except _HDF5_DAMAGE as error:
        raise RecipeError(f"{path} is not a readable .h5 file: {_short(error)} (truncated?)", _SAVE_AGAIN) from error
    if config is None or not has_weights:
        raise RecipeError(
            f"{path} holds weights only, no model.",
            "Build the model in Python, load_weights() into it, and save it whole: model.save('model.keras').",
        )
    parsed = modern(_parse(config, path))
    found = check(parsed, path, own)
    with path.open("rb") as stream:
        weights = _scan(stream, "model_weights", path)
    return _contents(found, Weights(weights.parameters, has_optimizer=trained), inputs_of(parsed))


def compiled_loss(path: Path) -> Any:
    """Return the loss of a `.keras` or `.h5` file's compile configuration as plain data; None where it holds none.

    Raises RecipeError for a damaged file.
    """
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                config = _parse(archive.read(_CONFIG), path)
                compiled = config.get("compile_config") if isinstance(config, dict) else None
        else:
            with h5py.File(path, "r") as file:
                compiled = _parse(file.attrs.get("training_config", "null"), path)
    except (*_ZIP_DAMAGE, *_HDF5_DAMAGE) as error:
        raise RecipeError(f"{path} is not a readable model file: {_short(error)}", _SAVE_AGAIN) from error
    return compiled.get("loss") if isinstance(compiled, dict) else None


def _contents(layers: tuple[str, ...], weights: Weights, inputs: tuple[Input, ...]) -> Contents:
    warnings = []
    if weights.has_optimizer:
        warnings.append("the file holds optimizer state: it is ignored, and makes the source look larger than it is")
    if {"Resizing", "CenterCrop"} & set(layers) and "BatchNormalization" in layers:
        warnings.append(
            "Resizing or CenterCrop with BatchNormalization: called without training=False, Keras runs the "
            "normalization in training mode; edgekit passes training=False, make sure your own code does"
        )
    return Contents(weights.parameters, layers, tuple(warnings), inputs=inputs)


def _check_version(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise UnsupportedError for a `.keras` file of Keras 2, whose weights lie otherwise in it."""
    if _METADATA not in archive.namelist():
        return
    written = _parse(archive.read(_METADATA), path)
    version = str(written.get("keras_version", "")) if isinstance(written, dict) else ""
    if version.startswith("2."):
        raise UnsupportedError(
            f"{path} is a .keras file of Keras {version}, which Keras 3 does not load.",
            "In the environment that made it: keras.models.load_model(path).save('model.h5'); give edgekit the .h5.",
        )


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise UnsupportedError(f"{path} holds a member that points out of the archive: {name!r}.", _SAVE_AGAIN)
    if len(set(names)) != len(names):
        raise UnsupportedError(f"{path} holds two members of one name.", _SAVE_AGAIN)
    for name in (_CONFIG, _WEIGHTS):
        if name not in names:
            raise RecipeError(f"{path} is not a .keras file: it holds no {name}.", _SAVE_AGAIN)
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES or archive.getinfo(_CONFIG).file_size > _MAX_CONFIG_BYTES:
        raise UnsupportedError(f"{path} unpacks to {size / 1e9:.1f} GB, more than edgekit reads.")
    if size > _BOMB_BYTES and size > _BOMB_RATIO * path.stat().st_size:
        raise UnsupportedError(
            f"{path} unpacks to {size / 1e9:.1f} GB, {size // path.stat().st_size} times its size: no weights do.",
            _SAVE_AGAIN,
        )


def _parse(config: str | bytes, path: Path) -> Any:
    try:
        return json.loads(config)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path} has a damaged configuration: {error}", _SAVE_AGAIN) from error


def _scan(stream: IO[bytes], group: str, path: Path) -> Weights:
    try:
        with h5py.File(stream, "r") as file:
            return scan(file[group] if group else file, path)
    except _HDF5_DAMAGE as error:
        raise RecipeError(f"{path} has damaged weights: {_short(error)}", _SAVE_AGAIN) from error


def _short(error: Exception) -> str:
    """Return what HDF5 says in brackets, e.g. "file signature not found", without its stack."""
    return str(error).strip("'\"").rsplit("(", 1)[-1].rstrip(")")
