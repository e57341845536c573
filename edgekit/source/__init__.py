"""Look into a user's trained model without TensorFlow and without running anything out of it.

Used before any work starts: what would fail after minutes of conversion fails here, in one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekit import named_code
from edgekit.errors import RecipeError
from edgekit.source import keras_file, onnx_file, pytorch_file, saved_model, tflite_file
from edgekit.source.info import Contents, Format, Input, SourceInfo

__all__ = ["SourceInfo", "inspect"]

READ = "edgekit reads .keras, .h5 (.hdf5), .onnx, .tflite, .pt2 and SavedModel folders"

_INSTEAD = {
    ".pb": "Give the SavedModel folder that holds saved_model.pb.",
    ".safetensors": "It holds weights without their network: export the whole model, to ONNX for example.",
    ".ckpt": "A checkpoint holds weights without their network: export the whole model.",
}
_EXPORT = "Save the model in its library's own format."
_EXPORT_TORCH = (
    "Export it where it was trained, with an example of its input:\n"
    "  program = torch.export.export(model.eval(), (torch.zeros(1, 3, 224, 224),))\n"
    "  torch.export.save(program, 'model.pt2')"
)
# A pickle runs code when it is opened; these are never opened.
_PICKLES = {
    **dict.fromkeys((".pt", ".pth"), _EXPORT_TORCH),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _EXPORT),
}


def inspect(path: Path, signature: str = "", custom: Path | None = None) -> SourceInfo:
    """Check a trained model's file and tell what is in it; ``signature``: of a SavedModel that has several.

    ``custom``: the user's file with the classes of a Keras model's own layers; it is read here, not run. Raises
    RecipeError where the model is missing, damaged or of no known kind, UnsupportedError where it is whole but holds
    what edgekit refuses: code, custom layers, custom operators, NaN.
    """
    if not path.exists():
        raise RecipeError(f"There is no model at {path}.", f"{READ}.")
    if path.is_dir():
        size = sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
        return _info(path, "saved_model", size, _saved_model(path, signature))
    reader = _READERS.get(path.suffix.lower())
    if path.suffix.lower() in _PICKLES:
        raise RecipeError(
            f"{path} is no kind of model that edgekit reads: a pickle runs code when it is opened.",
            _PICKLES[path.suffix.lower()],
        )
    if reader is None:
        raise RecipeError(
            f"{path} is no kind of model that edgekit reads.", _INSTEAD.get(path.suffix.lower(), f"{READ}.")
        )
    if signature:
        raise RecipeError(f"{path} has no signatures: only a SavedModel does.", "Leave the signature out.")
    kind, read = reader
    _check_start(path, kind)
    if custom and kind not in _KERAS_READERS:
        raise RecipeError(f"{path} is no Keras model: only those have classes of their own.", "Leave custom out.")
    contents = _KERAS_READERS[kind](path, named_code.names(custom)) if custom else read(path)
    return _info(path, kind, path.stat().st_size, contents)


def inputs(path: Path) -> tuple[Input, ...]:
    """Return the inputs of an .onnx or .tflite file, checked no further. Raises RecipeError for a damaged one."""
    return _INPUTS[path.suffix.lower()](path)


def _info(path: Path, kind: Format, size_bytes: int, contents: Contents) -> SourceInfo:
    return SourceInfo(path, kind, size_bytes, **vars(contents))


def _check_start(path: Path, kind: Format) -> None:
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise RecipeError(f"Cannot read {path}: {error.strerror or error}.") from error
    if not start:
        raise RecipeError(f"{path} is an empty file.", "Copy the model again.")
    if start.startswith(b"version https://git-lfs"):
        raise RecipeError(f"{path} is a Git LFS pointer, not the model.", "Fetch it with: git lfs pull")
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        raise RecipeError(f"{path} is a pickle, which runs code when it is opened; edgekit does not.", _EXPORT)
    if kind == "keras" and start.startswith(b"\x89HDF\r\n\x1a\n"):
        raise RecipeError(f"{path} is an HDF5 file.", "Rename it to end in .h5.")
    if kind == "h5" and start.startswith(b"PK"):
        raise RecipeError(f"{path} is a zip archive.", "If it is a .keras file, rename it to end in .keras.")


def _saved_model(path: Path, signature: str) -> Contents:
    graph = path / "saved_model.pb"
    if not graph.is_file():
        raise RecipeError(f"{path} is a folder without saved_model.pb.", f"{READ}.")
    if graph.stat().st_size == 0:
        raise RecipeError(f"{graph} is empty.", "Export the model again.")
    variables = path / "variables"
    if not (variables / "variables.index").is_file() or not any(variables.glob("variables.data-*")):
        raise RecipeError(f"{path} is an incomplete SavedModel: variables/ is missing.", "Copy the whole folder.")
    return saved_model.read(path, signature)


_READERS: dict[str, tuple[Format, Callable[[Path], Contents]]] = {
    ".keras": ("keras", keras_file.read_archive),
    ".h5": ("h5", keras_file.read_hdf5),
    ".hdf5": ("h5", keras_file.read_hdf5),
    ".onnx": ("onnx", onnx_file.read),
    ".tflite": ("tflite", tflite_file.read),
    ".pt2": ("pt2", pytorch_file.read),
}
_KERAS_READERS: dict[str, Callable[[Path, frozenset[str]], Contents]] = {
    "keras": keras_file.read_archive,
    "h5": keras_file.read_hdf5,
}
_INPUTS: dict[str, Callable[[Path], tuple[Input, ...]]] = {
    ".onnx": lambda path: onnx_file.inputs_of(onnx_file.load(path)),
    ".tflite": lambda path: tflite_file.inputs_of(tflite_file.read_model(path)),
}
