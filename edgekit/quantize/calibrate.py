"""Watch the float graph run on samples and keep, per tensor, only the smallest and largest value seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime as ort
from ai_edge_litert import interpreter as litert

from edgekit.errors import StageError
from edgekit.quantize.graph import read_graph
from edgekit.quantize.plan import Ranges, check_ranges

Sample = Mapping[str, npt.NDArray[Any]]


class MinMax:
    """Running minimum and maximum of named tensors; its memory does not grow with the number of samples."""

    def __init__(self) -> None:
        self.ranges: Ranges = {}
        self.samples = 0

    def observe(self, tensors: Iterable[tuple[str, npt.NDArray[Any]]]) -> None:
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


def ranges_tflite(path: Path, samples: Iterable[Sample]) -> Ranges:
    """Return the range of every float activation of a float .tflite over the samples.

    Each sample maps signature input names to ``(1, ...)`` arrays. Raises StageError without samples, for a
    sample that does not fit the signature and for tensors that are not finite.
    """
    # Without the delegate every tensor exists, also those nobody reads, which the quantizer will ask about.
    interpreter = litert.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner("serving_default")
    wanted = read_graph(path, "tflite").floats
    indices = {d["name"]: d["index"] for d in interpreter.get_tensor_details() if d["name"] in wanted}

    def tensors(sample: Sample) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        run(**sample)
        for name, index in indices.items():
            yield name, interpreter.get_tensor(index)

    return _observe(samples, tensors, path)


def ranges_onnx(path: Path, samples: Iterable[Sample]) -> Ranges:
    """Return the range of every float activation of a float .onnx; arguments as for TFLite."""
    graph = read_graph(path, "onnx")
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

    return _observe(samples, tensors, path)


def _observe(samples: Iterable[Sample], tensors: Any, path: Path) -> Ranges:
    observer = MinMax()
    for sample in samples:
        try:
            observer.observe(tensors(sample))
        except (ValueError, TypeError, RuntimeError) as error:  # both runtimes report misfits through these
            raise StageError(
                f"calibration sample {observer.samples + 1} does not fit {path.name}: {error}",
                "Check the names, shapes and types that the preprocessing makes.",
            ) from error
    if not observer.samples:
        raise StageError("there are no calibration samples", "Give at least one; around 100 is usual.")
    return dict(sorted(observer.ranges.items()))


CALIBRATORS = {"tflite": ranges_tflite, "onnx": ranges_onnx}


def ranges(path: Path, format: str, samples: Iterable[Sample]) -> Ranges:
    """Calibrate a float model of either format."""
    return CALIBRATORS[format](path, samples)
