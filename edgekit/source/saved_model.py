"""Read a SavedModel folder as data: its signatures and its ops, without TensorFlow.

Only the few fields that are read here are described; protobuf passes over the rest.
Source: tensorflow/core/protobuf/saved_model.proto, meta_graph.proto and framework/graph.proto.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.info import MAX_BYTES, Contents, Input

DEFAULT_SIGNATURE = "serving_default"
_NOT_SIGNATURES = {"__saved_model_init_op", "__saved_model_train_op"}
# They run foreign code, or read and write files wherever the graph says.
_REFUSED = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles"}
_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64",
    9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
_PACKAGE = "edgekit.saved_model"
_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {  # message: name, number, type ("*": repeated, "@": by name)
    "Dim": (("size", 1, "int64"),),
    "Shape": (("dim", 2, "*Dim"), ("unknown_rank", 3, "bool")),
    "TensorInfo": (("name", 1, "string"), ("dtype", 2, "int32"), ("tensor_shape", 3, "Shape")),
    "Signature": (("inputs", 1, "@TensorInfo"), ("outputs", 2, "@TensorInfo"), ("method_name", 3, "string")),
    "Node": (("name", 1, "string"), ("op", 2, "string")),
    "Function": (("node", 3, "*Node"),),
    "Library": (("function", 1, "*Function"),),
    "Graph": (("node", 1, "*Node"), ("library", 2, "Library")),
    "MetaGraph": (("graph", 2, "Graph"), ("signature", 5, "@Signature")),
    "SavedModel": (("version", 1, "int64"), ("meta_graph", 2, "*MetaGraph")),
}


def read(path: Path, signature: str = "") -> Contents:
    """Check a SavedModel folder and return the inputs of one signature: the named, the default, or the only one.

    Raises RecipeError where the folder is incomplete or damaged, UnsupportedError without such a signature and for
    graphs that read or write files or run foreign code.
    """
    graph = path / "saved_model.pb"
    if graph.stat().st_size > MAX_BYTES:
        raise UnsupportedError(f"{graph} is larger than {MAX_BYTES >> 30} GB, more than edgekit reads.")
    model = message("SavedModel")
    try:
        model.ParseFromString(graph.read_bytes())
    except DecodeError as error:
        raise RecipeError(f"{graph} is damaged: it is no SavedModel.", "Copy the whole folder again.") from error
    if not model.meta_graph:
        raise RecipeError(f"{graph} is damaged: it holds no graph.", "Copy the whole folder again.")
    meta = model.meta_graph[0]
    for node in _nodes(meta):
        if node.op in _REFUSED:
            raise UnsupportedError(
                f"{path} runs foreign code or touches files: {node.op} at {node.name!r}.",
                "Export the network alone, without what reads its samples.",
            )
    found = {name: meta.signature[name] for name in sorted(meta.signature) if name not in _NOT_SIGNATURES}
    chosen = choose(list(found), path, signature)
    inputs = tuple(_input(name, found[chosen].inputs[name]) for name in sorted(found[chosen].inputs))
    return Contents(
        warnings=("pruning needs the Keras graph: a SavedModel is quantized and converted only",),
        inputs=inputs,
        signature=chosen,
    )


def choose(names: list[str], path: Path, wanted: str = "") -> str:
    """Return the signature of this name, else the default or the only one. Raises UnsupportedError for neither."""
    found = ", ".join(names) or "none"
    if wanted and wanted not in names:
        close = difflib.get_close_matches(wanted, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Name one of them: --signature NAME"
        raise UnsupportedError(f"{path.name} has no signature {wanted!r} (found: {found}).", hint)
    if wanted or DEFAULT_SIGNATURE in names or len(names) == 1:
        return wanted or (DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in names else names[0])
    if names:
        raise UnsupportedError(
            f"{path.name} has several signatures and no {DEFAULT_SIGNATURE!r} (found: {found}).",
            f"Choose one: --signature {names[0]}, or signature under [model] in edgekit.toml.",
        )
    raise UnsupportedError(
        f"{path.name} has no signature: nothing says what goes in and out.",
        f"Save it with tf.saved_model.save(..., signatures={{'{DEFAULT_SIGNATURE}': function}}).",
    )


def message(name: str) -> Any:
    """Return an empty protobuf message of a SavedModel, or of one of its parts."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))()


def _nodes(meta: Any) -> Iterator[Any]:
    yield from meta.graph.node
    for function in meta.graph.library.function:
        yield from function.node


def _input(name: str, tensor: Any) -> Input:
    sizes = tuple(None if dim.size < 0 else int(dim.size) for dim in tensor.tensor_shape.dim)
    shape = None if tensor.tensor_shape.unknown_rank else sizes
    return Input(name, shape, _DTYPES.get(tensor.dtype, f"type {tensor.dtype}"))


def _pool() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="edgekit/saved_model.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        described = file.message_type.add(name=name)
        for field, number, kind in fields:
            _describe(described, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _describe(described: Any, field: str, number: int, kind: str) -> None:
    proto = descriptor_pb2.FieldDescriptorProto
    plain = {"int64": proto.TYPE_INT64, "int32": proto.TYPE_INT32, "bool": proto.TYPE_BOOL, "string": proto.TYPE_STRING}
    bare = kind.lstrip("*@")
    added = described.field.add(name=field, number=number, type=plain.get(bare, proto.TYPE_MESSAGE))
    added.label = proto.LABEL_OPTIONAL if kind == bare else proto.LABEL_REPEATED
    if bare not in plain:
        added.type_name = f".{_PACKAGE}.{bare}"
    if kind.startswith("@"):
        entry = described.nested_type.add(name=f"{field.title()}Entry")
        entry.options.map_entry = True
        _describe(entry, "key", 1, "string")
        _describe(entry, "value", 2, bare)
        added.type_name = f".{_PACKAGE}.{described.name}.{entry.name}"


_POOL = _pool()
