"""Prune an ONNX network as PyTorch exports it (NCHW) without labels or training, and print what it cost and bought.

    python -m benchmarks.onnx_pruning [SAMPLE] [--keep 0.6 0.4] [--importance reconstruction l2 random] [--seconds 5]

SAMPLE is a folder with edgekit.toml and model.keras (sample_models/digits_detector by default). Its network is exported
to ONNX, its input made NCHW. Channels are ranked and weights solved on training images, without their labels; the test
images, which nothing else sees, give the metric with a paired bootstrap interval. All float files are then timed in
turns in ONNX Runtime, one thread, on this host. One Markdown table goes to stdout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

from edgekit import keras_io, recipe, single
from edgekit.convert import float_graph
from edgekit.convert import onnx as onnx_converter
from edgekit.profile import accuracy
from edgekit.progress import Progress
from edgekit.prune.onnx import stage

_TO_NCHW = (0, 3, 1, 2)
_HEAD = (
    "| ranked by | MACs kept | parameters kept | exactness | repaired by | metric | lost, points [95 %] | speed, min "
    "(p50) | seconds |\n|---|---|---|---|---|---|---|---|---|"
)


def nchw(content: bytes) -> bytes:
    """Make the image come in channels first: what a converter puts in front to turn it over goes away."""
    model = onnx.load_from_string(content)
    for value in model.graph.input:
        readers = [node for node in model.graph.node if value.name in node.input]
        shape = value.type.tensor_type.shape.dim
        if len(readers) == 1 and _turns_over(model, readers[0], [dim.dim_value for dim in shape]):
            sizes = [shape[axis].dim_value for axis in _TO_NCHW]
            for dim, size in zip(shape, sizes, strict=True):
                dim.dim_value = size
            for node in model.graph.node:
                node.input[:] = [value.name if name == readers[0].output[0] else name for name in node.input]
            model.graph.node.remove(readers[0])
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _turns_over(model: onnx.ModelProto, node: onnx.NodeProto, sizes: list[int]) -> bool:
    """Say whether a node makes NCHW of NHWC; with one channel, a converter may write a Reshape."""
    if node.op_type == "Transpose":
        return tuple(node.attribute[0].ints) == _TO_NCHW
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = constants.get(node.input[1]) if node.op_type == "Reshape" else None
    return made is not None and len(sizes) == 4 and sizes[3] == 1 and made.tolist()[1:] == [1, *sizes[1:3]]


def export(model: Path, out: Path) -> Path:
    """Write a Keras model as NCHW ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved_model"
        float_graph.export_keras(keras_io.load(model), saved)
        out.write_bytes(nchw(onnx_converter.float32(saved)))
    return out


class _Sample:
    """A sample's recipe as the arguments of the steps that a build would run."""

    def __init__(self, folder: Path) -> None:
        self.wanted = recipe.load(folder / "edgekit.toml")
        self.model = self.wanted.model.path
        self.task = self.wanted.task.model_dump(mode="json", exclude={"adapter", "classes"})

    def dataset(self, path: Path, labels: Path | None) -> dict[str, Any]:
        return {
            "kind": self.wanted.data.kind, "path": path, "labels": labels, "classes": list(self.wanted.task.classes),
            "preprocess": self.wanted.preprocess.model_dump(mode="json"),
        }  # fmt: skip

    def pruned(
        self, file: Path, out: Path, keep: float, importance: str, options: argparse.Namespace
    ) -> dict[str, Any]:
        out.mkdir()
        data = self.wanted.data
        settings = {
            "keep_macs": keep, "minutes": 20, "importance": importance, "cost": "macs", "round_to": options.round_to,
            "min_channels": options.round_to, "max_layer_cut": 0.8, "limits": {}, "protect": [], "refit": True,
            "seed": options.seed,
        }  # fmt: skip
        return stage.run(
            out=out, progress=_progress(f"{importance} {keep}"), model=file,
            dataset=self.dataset(data.train or data.calibration, None), labelled=False, task=self.task,
            costs=[], settings=settings,
            aim={"accuracy_drop": 1.0, "speedup": None, "latency_ms": None, "slack": 1.0},
        )  # fmt: skip

    def scored(self, file: Path, out: Path, baseline: Path | None) -> dict[str, Any]:
        out.mkdir(exist_ok=True)
        data = self.wanted.data
        return accuracy.run(
            out=out, progress=_progress("scoring"), artifact=file, format="onnx",
            dataset=self.dataset(data.test, data.test_labels), task=self.task, baseline=baseline, resamples=400, seed=0,
        )  # fmt: skip


def main() -> None:
    """Prune, score, time, and print the table."""
    parser = argparse.ArgumentParser(description="Prune an ONNX network without training and print what it bought.")
    parser.add_argument("sample", nargs="?", type=Path, default=Path("sample_models/digits_detector"))
    parser.add_argument("--keep", nargs="+", type=float, default=[0.7, 0.5, 0.35])
    parser.add_argument("--importance", nargs="+", default=["reconstruction", "l2", "random"])
    parser.add_argument("--round-to", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing, for each file")
    parser.add_argument("--model", type=Path, help="an ONNX file made before, instead of exporting the sample's model")
    options = parser.parse_args()
    sample = _Sample(options.sample)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpruned = options.model or export(sample.model, folder / "unpruned.onnx")
        base = sample.scored(unpruned, folder / "unpruned", None)
        rows: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {}
        files = {"unpruned": unpruned}
        for importance in options.importance:
            for keep in options.keep:
                began, label = time.monotonic(), f"{importance} {keep}"
                out = folder / label
                facts = sample.pruned(unpruned, out, keep, importance, options)
                seconds = time.monotonic() - began
                files[label] = out / stage.MODEL
                rows[label] = (
                    facts,
                    sample.scored(files[label], out, folder / "unpruned" / accuracy.PREDICTIONS),
                    seconds,
                )
        timed = single.latency(
            list(files.values()), 1, single.how_long(options.seconds, False, None), _progress("timing")
        )  # fmt: skip
        print(_HEAD)
        print(f"| unpruned | 100 % | 100 % | | | {100 * base['value']:.2f} | | 1 | |")
        for label, (facts, score, seconds) in rows.items():
            print(_row(label, facts, score, seconds, timed[str(unpruned)], timed[str(files[label])]))


def _row(
    label: str, facts: dict[str, Any], score: dict[str, Any], seconds: float, before: dict[str, Any],
    after: dict[str, Any],
) -> str:  # fmt: skip
    low, high = score["drop_low_points"], score["drop_high_points"]
    speed = f"{before['min_ms'] / after['min_ms']:.2f}x ({before['p50_ms'] / after['p50_ms']:.2f}x)"
    return (
        f"| {label.split()[0]} | {facts['macs_after'] / facts['macs_before']:.1%} "
        f"| {facts['parameters_after'] / facts['parameters_before']:.1%} | {facts['exactness_error']:.0e} "
        f"| {facts['tried'][0]['refit']} | {100 * score['value']:.2f} "
        f"| {score['drop_points']:.2f} [{low:.2f}, {high:.2f}] | {speed} | {seconds:.0f} |"
    )


def _progress(what: str) -> Progress:
    return lambda done, text: print(f"{what}: {text} ({done:.0%})", file=sys.stderr)


if __name__ == "__main__":
    main()
