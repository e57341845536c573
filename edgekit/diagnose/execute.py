"""Run a model with every tensor kept, on reference kernels, so that each can be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.diagnose.quantized_file import Quantization
from edgekit.errors import StageError
from edgekit.runtimes import litert, ort

Array = npt.NDArray[Any]
Sample = Mapping[str, Array]


class Runner(Protocol):
    """A loaded model. ``inputs`` and ``outputs`` are those of a runtimes.Session."""

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    def run(self, sample: Sample) -> dict[str, Array]:
        """Return the outputs by name."""

    def tensors(self) -> Iterator[tuple[str, Array]]:
        """Yield the kept tensors of the last run."""


class TfliteRunner:
    """LiteRT without a delegate; integers stay integers. ``keep`` names the tensors to look at.

    ``fast`` runs with the delegate, which is for float models whose tensors nobody looks at.
    """

    def __init__(self, content: bytes, keep: Iterable[str] = (), *, fast: bool = False) -> None:
        wanted = set(keep)
        kernels = OpResolverType.BUILTIN if fast else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=kernels,
            experimental_preserve_all_tensors=bool(wanted),
        )
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._session = litert.Session(interpreter)
        self._kept = _numbers(content, wanted) if wanted else {}
        self.inputs, self.outputs = self._session.inputs, self._session.outputs

    def run(self, sample: Sample) -> dict[str, Array]:
        arrays = self._session.run([sample[spec["name"]] for spec in self.inputs])
        return {spec["name"]: array for spec, array in zip(self.outputs, arrays, strict=True)}

    def tensors(self) -> Iterator[tuple[str, Array]]:
        for name, index in self._kept.items():
            yield name, self._interpreter.get_tensor(index)


def _numbers(content: bytes, wanted: set[str]) -> dict[str, int]:
    """Map names to tensor numbers. Of equal names (float16 files have them) it is the last that an op makes."""
    main = flatbuffer_utils.read_model_from_bytearray(bytearray(content)).subgraphs[0]
    made = [*main.inputs, *(number for op in main.operators for number in op.outputs)]
    return {name: int(number) for number in made if (name := main.tensors[number].name.decode()) in wanted}


class OnnxRunner:
    """ONNX Runtime without graph optimizations, which would fuse tensors away; ``fast`` as for TFLite."""

    def __init__(self, content: bytes, keep: Iterable[str] = (), *, fast: bool = False) -> None:
        proto = onnx.load_from_string(content)
        given = {value.name for value in (*proto.graph.input, *proto.graph.output)}
        self._kept = list(dict.fromkeys(keep))
        for name in self._kept:
            if name not in given:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))  # of whatever type it is
        options = ort.session_options(1)
        if not fast:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
        described = ort.Session(session)
        self.inputs = described.inputs
        self.outputs = [spec for spec in described.outputs if spec["name"] in given]
        self._session = session
        self._names = [spec["name"] for spec in described.outputs]
        self._found: dict[str, Array] = {}

    def run(self, sample: Sample) -> dict[str, Array]:
        arrays = self._session.run(self._names, dict(sample))
        self._found = {**sample, **dict(zip(self._names, arrays, strict=True))}
        return {spec["name"]: self._found[spec["name"]] for spec in self.outputs}

    def tensors(self) -> Iterator[tuple[str, Array]]:
        for name in self._kept:
            yield name, self._found[name]


_RUNNERS: dict[str, type[TfliteRunner] | type[OnnxRunner]] = {"tflite": TfliteRunner, "onnx": OnnxRunner}


def open_runner(content: bytes | Path, format: str, keep: Iterable[str] = (), *, fast: bool = False) -> Runner:
    """Load a model, keeping the named tensors; ``fast``: with the runtime's optimizations, keeping none.

    Raises StageError where the runtime refuses it.
    """
    data = content.read_bytes() if isinstance(content, Path) else content
    name = content.name if isinstance(content, Path) else "the changed model"
    try:
        return _RUNNERS[format](data, keep, fast=fast)
    except Exception as error:  # onnxruntime's own errors share no base class
        raise StageError(f"{name} cannot be run on reference kernels: {error}") from error


def as_input(
    sample: Sample, mine: Sequence[Mapping[str, Any]], its: Sequence[Mapping[str, Any]],
    forms: Mapping[int, Quantization],
) -> dict[str, Array]:  # fmt: skip
    """Give the artifact the float model's sample: channels moved, integers where it takes them.

    ``mine`` and ``its`` describe the inputs, matched by name, else by position; ``forms``: position of an input of
    the artifact -> its int8 form.
    """
    same = {spec["name"] for spec in mine} == {spec["name"] for spec in its}
    made: dict[str, Array] = {}
    for position, (spec, other) in enumerate(zip(its, mine, strict=True)):
        array = _in_layout(sample[spec["name"] if same else other["name"]], spec)
        wanted = np.dtype(spec["dtype"])
        form = forms.get(position)
        if form is not None and wanted.kind in "iu" and array.dtype.kind == "f":
            info = np.iinfo(form.dtype)
            array = np.clip(np.rint(array / form.scale[0]) + form.zero[0], info.min, info.max)
        made[spec["name"]] = np.ascontiguousarray(array.astype(wanted, copy=False))
    return made


def _in_layout(array: Array, spec: Mapping[str, Any]) -> Array:
    shape = tuple(spec["shape"])
    for order in ((0, 3, 1, 2), (0, 2, 3, 1)):
        if array.ndim == len(shape) == 4 and array.shape != shape and tuple(array.shape[i] for i in order) == shape:
            return array.transpose(order)
    return array
