"""Watch the float graph run on samples and keep, per tensor, its range or its statistics; never its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime as ort
from ai_edge_litert import interpreter as litert

from edgekit.errors import StageError
from edgekit.quantize.graph import Graph, read_graph
from edgekit.quantize.observers import TensorStatistics
from edgekit.quantize.plan import Ranges, check_ranges

Sample = Mapping[str, npt.NDArray[Any]]
Tensors = Iterable[tuple[str, npt.NDArray[Any]]]
Run = Callable[[Sample], Tensors]


class MinMax:
    """Running minimum and maximum of named tensors; its memory does not grow with the number of samples."""

    def __init__(self) -> None:
        self.ranges: Ranges = {}
        self.samples = 0

    def observe(self, tensors: Tensors) -> None:
        """Add the tensors of one sample; raises StageError naming a tensor that holds NaN or infinity."""
        seen: Ranges = {}
        for name, values in tensors:
            if not values.size:
                continue
            low, high = float(values.min()), float(values.max())
            old = self.ranges.get(name, (low, high))
            seen[name] = (low, high)
            self.ranges[name] = (min(old[0], low), max(old[1], high))
        check_ranges(seen)  # of this sample: min() and max() of Python would lose a NaN
        self.samples += 1


def ranges(path: Path, format: str, samples: Iterable[Sample]) -> Ranges:
    """Return the range of every float activation of a float model, ``format`` tflite or onnx, over the samples.

    Each sample maps the model's input names to ``(1, ...)`` arrays. Raises StageError without samples, for a
    sample that does not fit the model and for tensors that are not finite.
    """
    observer = MinMax()
    _feed(_RUNS[format](path, read_graph(path, format)), samples, observer.observe, path)
    return dict(sorted(observer.ranges.items()))


def observe(path: Path, format: str, samples: Iterable[Sample]) -> dict[str, TensorStatistics]:
    """Return the statistics of every float activation; arguments and errors as for ``ranges``."""
    graph = read_graph(path, format)
    axes = channel_axes(graph, format)
    found: dict[str, TensorStatistics] = {}

    def add(tensors: Tensors) -> None:
        for name, values in tensors:
            if values.size:
                found.setdefault(name, TensorStatistics(name, axes[name])).observe(values)

    _feed(_RUNS[format](path, graph), samples, add, path)
    return dict(sorted(found.items()))


def ranges_tflite(path: Path, samples: Iterable[Sample]) -> Ranges:
    return ranges(path, "tflite", samples)


def ranges_onnx(path: Path, samples: Iterable[Sample]) -> Ranges:
    return ranges(path, "onnx", samples)


def channel_axes(graph: Graph, format: str) -> dict[str, int]:
    """Return the axis of the channels of every float activation: 1 behind an ONNX convolution, else the last."""
    if format == "tflite":
        return dict.fromkeys(graph.floats, -1)
    axes = dict.fromkeys(graph.floats, 1)
    for op in graph.ops:
        before = next((axes[name] for name in op.inputs if name in axes), 1)
        for name in set(op.outputs) & axes.keys():
            axes[name] = _ONNX_CHANNEL_AXIS.get(op.kind, before)
    return axes


# Products with a matrix have their features last; whatever rearranges axes is followed no further.
_ONNX_CHANNEL_AXIS = {"MatMul": -1, "Gemm": -1, "Conv": 1, "ConvTranspose": 1, "Transpose": 1, "Reshape": 1}


def _run_tflite(path: Path, graph: Graph) -> Run:
    # Without the delegate every tensor exists, also those nobody reads, which the quantizer will ask about.
    interpreter = litert.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner("serving_default")
    indices = {d["name"]: d["index"] for d in interpreter.get_tensor_details() if d["name"] in graph.floats}

    def tensors(sample: Sample) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        run(**sample)
        for name, index in indices.items():
            yield name, interpreter.get_tensor(index)

    return tensors


def _run_onnx(path: Path, graph: Graph) -> Run:
    model = onnx.load(str(path))
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    for name in sorted(graph.floats - given):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # fusing would remove tensors
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs() if value.name in graph.floats]

    def tensors(sample: Sample) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        yield from ((name, array) for name, array in sample.items() if name in graph.floats)
        yield from zip(names, session.run(names, dict(sample)), strict=True)

    return tensors


_RUNS: dict[str, Callable[[Path, Graph], Run]] = {"tflite": _run_tflite, "onnx": _run_onnx}


def _feed(run: Run, samples: Iterable[Sample], observe: Callable[[Tensors], None], path: Path) -> None:
    count = 0
    for sample in samples:
        try:
            observe(run(sample))
        except (ValueError, TypeError, RuntimeError) as error:  # both runtimes report misfits through these
            raise StageError(
                f"calibration sample {count + 1} does not fit {path.name}: {error}",
                "Check the names, shapes and types that the preprocessing makes.",
            ) from error
        count += 1
    if not count:
        raise StageError("there are no calibration samples", "Give at least one; around 100 is usual.")
