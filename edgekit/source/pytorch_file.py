"""Read a PyTorch program (`.pt2`, of torch.export) as data, and write it without what would run code when loaded.

torch.export.load is made for files that one trusts: it unpickles sample inputs, evaluates symbolic sizes as Python and
compiles the guards. Here all of that is left out or checked against a small grammar; the graph and the weights stay.
"""

from __future__ import annotations

import ast
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.info import MAX_BYTES, Contents, Input

_MODEL = "models/model.json"
_WEIGHTS, _CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
_SAMPLES = "data/sample_inputs/model.pt"
_KEPT = (_MODEL, "data/weights/", "data/constants/", "archive_format", "archive_version", ".data/", "byteorder")
_MOST_JSON = 64 << 20
_AGAIN = "Export it again: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')"
_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized_decomposed)\.[\w.]+|_operator\.\w+|math\.\w+|torch\.sym_\w+"
)
_FUNCTIONS = {
    "Symbol", "Integer", "Mul", "Add", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv",
    "Rational", "IntTrueDiv", "ModularIndexing", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not",
}  # fmt: skip
_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub, ast.BinOp,
    ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Pow, ast.Div,
)  # fmt: skip
# torch's numbers of its types: torch/_export/serde/schema.py
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
}  # fmt: skip
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError)
_CONTRADICTIONS = (KeyError, TypeError, AttributeError, IndexError, RecursionError)


def read(path: Path) -> Contents:
    """Check a `.pt2` file. Raises RecipeError for a damaged one, UnsupportedError for what would run other code."""
    return _checked(path)[1]


def disarm(path: Path, out: Path) -> None:
    """Write the program again with nothing in it that torch would run or unpickle. Raises as ``read`` does."""
    program, _ = _checked(path)
    program["guards_code"] = []
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        root = _root(old, path)
        for name in old.namelist():
            inner = name.removeprefix(root)
            if inner == _MODEL:
                new.writestr(name, json.dumps(program))
            elif inner.startswith(_KEPT):
                new.writestr(name, old.read(name))
        new.writestr(root + _SAMPLES, b"")


def _checked(path: Path) -> tuple[dict[str, Any], Contents]:
    """Return the checked program, and what there is to say of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive, path)
            program = _json(archive, root + _MODEL, path)
            counted = sum(_count(item, path) for item in _tensors(archive, root + _WEIGHTS, path))
            for item in _tensors(archive, root + _CONSTANTS, path):
                _count(item, path)
        _check_targets(program, path)
        for text in _expressions(program):
            _check_expression(text, path)
        kinds = tuple(
            str(node["target"]).rpartition(".ops.")[2].removesuffix(".default")
            for node in program["graph_module"]["graph"]["nodes"]
        )
        return program, Contents(counted, kinds, ("a PyTorch program goes through ONNX",), inputs=_inputs(program))
    except _DAMAGE as error:
        raise RecipeError(f"{path} is not a readable .pt2 file: {error} (truncated?)", _AGAIN) from error
    except _CONTRADICTIONS as error:
        raise RecipeError(f"{path} is damaged: its program is not whole ({type(error).__name__}).", _AGAIN) from error


def _root(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the folder that everything is in; it is named after the file that torch wrote."""
    names = archive.namelist()
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UnsupportedError(f"{path} holds a member that points out of the archive: {name!r}.", _AGAIN)
    if sum(member.file_size for member in archive.infolist()) > MAX_BYTES or len(set(names)) != len(names):
        raise UnsupportedError(f"{path} unpacks to more than edgekit reads, or to two files of one name.", _AGAIN)
    found = next((name for name in names if name.endswith(f"/{_MODEL}")), None)
    if found is None:
        what = "a pickle, which runs code when it is opened" if any(n.endswith(".pkl") for n in names) else "no program"
        raise RecipeError(f"{path} is {what}: it was not written by torch.export.save in torch 2.8 or later.", _AGAIN)
    return found.removesuffix(_MODEL)


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    if archive.getinfo(name).file_size > _MOST_JSON:
        raise UnsupportedError(f"{path} has a program of more than {_MOST_JSON >> 20} MB.")
    found: dict[str, Any] = json.loads(archive.read(name))
    return found


def _tensors(archive: zipfile.ZipFile, name: str, path: Path) -> list[dict[str, Any]]:
    return list(_json(archive, name, path)["config"].values()) if name in archive.namelist() else []


def _count(entry: dict[str, Any], path: Path) -> int:
    """Return the elements of one weight. Raises UnsupportedError for one that is pickled."""
    if entry.get("use_pickle") or not str(entry.get("path_name", "")).startswith(("weight_", "tensor_")):
        raise UnsupportedError(f"{path} holds a pickled weight or object, which runs code when it is opened.", _AGAIN)
    sizes = [int(size["as_int"]) for size in entry["tensor_meta"]["sizes"]]
    count = math.prod(sizes)
    if any(size < 0 for size in sizes) or count > MAX_BYTES:
        raise RecipeError(f"{path} is damaged: a weight has the shape {sizes}.", _AGAIN)
    return count


def _check_targets(program: dict[str, Any], path: Path) -> None:
    for node in _nodes(program):
        if not _TARGETS.fullmatch(str(node["target"])):
            raise UnsupportedError(
                f"{path} calls {str(node['target'])[:80]!r}, which is no operator of PyTorch's own.",
                "Export it without custom operators.",
            )


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the calls of every graph, those inside branches and loops too."""
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)
    elif isinstance(value, dict):
        if isinstance(value.get("nodes"), list):
            yield from value["nodes"]
        for item in value.values():
            yield from _nodes(item)


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _expressions(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "expr_str":
                yield str(item)
            else:
                yield from _expressions(item)


def _check_expression(text: str, path: Path) -> None:
    """torch evaluates these as Python: only sizes, and sums and products of them, may pass."""
    try:
        tree = ast.parse(text, mode="eval") if len(text) < 10_000 else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    for node in ast.walk(tree) if tree else ():
        called = isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS)
        if called or not isinstance(node, _NODES) or (isinstance(node, ast.Name) and node.id.startswith("_")):
            tree = None
            break
    if tree is None:
        raise UnsupportedError(f"{path} has a size that is no sum or product of sizes: {text[:80]!r}.", _AGAIN)


def _inputs(program: dict[str, Any]) -> tuple[Input, ...]:
    graph = program["graph_module"]["graph"]
    found = []
    for spec in program["graph_module"]["signature"]["input_specs"]:
        if "user_input" not in spec:
            continue
        name = str(spec["user_input"]["arg"]["as_tensor"]["name"])
        meta = graph["tensor_values"][name]
        shape = tuple(int(size["as_int"]) if "as_int" in size else None for size in meta["sizes"])
        found.append(Input(name, shape, _DTYPES.get(meta["dtype"], f"type {meta['dtype']}")))
    return tuple(found)
