"""Prune an ONNX network as PyTorch exports it (NCHW) through whole builds, and print what it cost and bought.

    python -m benchmarks.onnx_pruning OUT [--keep auto 0.6 0.55 0.5] [--random 0.5] [--seconds 10]

The clothes classifier is exported to ONNX, its image made NCHW, and built by clothes_onnx/edgekit.toml for a Raspberry
Pi (TFLite) and a Jetson (ONNX): prune, quantize, convert, profile; once for each amount. "auto" is the recipe as it
stands; --random ranks channels by chance, as a control. Pruning sees training pictures; the test pictures, all 10,000
with the Debian package dataset-fashion-mnist, else 1,000, give the accuracy with a paired bootstrap interval. All files
are then timed in turns, LiteRT and ONNX Runtime, one thread, on this host. OUT keeps what is done; Markdown goes to
stdout.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgekit import keras_io, single
from edgekit.convert import float_graph
from edgekit.convert import onnx as onnx_converter
from edgekit.devices import open_device
from edgekit.profile.latency import Job, measure
from edgekit.profile.schedule import Settings
from edgekit.report.measured import Accuracy, Latency
from edgekit.report.schema import Report, Variant
from sample_models.fashion_classifier import make

RECIPE = Path(__file__).with_name("clothes_onnx") / "edgekit.toml"
SAMPLE = Path(make.__file__).parent
_TO_NCHW = (0, 3, 1, 2)
_HEAD = (
    "| amount, ranked by | MACs kept | parameters kept | float top-1 | lost, points [95 %] | LiteRT float | ORT float "
    "| LiteRT int8 lost, points | LiteRT int8 | Jetson int8 lost, points | to prune |\n" + "|---" * 11 + "|"
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


def prepare(out: Path) -> None:
    """Write the network and the pictures, those that are not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("train.npz", "calibration.npz"):
        shutil.copyfile(SAMPLE / "data" / name, out / name)
    if not (out / "test.npz").exists():
        if make.SOURCE.is_dir():
            make.TEST_COUNT = 10_000
            pictures, labels = make.load_parts(make.SOURCE)["test"]
            np.savez_compressed(out / "test.npz", x=pictures, y=labels)
        else:
            shutil.copyfile(SAMPLE / "data" / "test.npz", out / "test.npz")
    if not (out / "model.onnx").exists():
        export(SAMPLE / "model.keras", out / "model.onnx")


@dataclass(frozen=True)
class Amount:
    """One build: how much stays ("auto" or a share), and by which ranking (auto: the recipe's)."""

    keep: str
    importance: str = "auto"

    @property
    def label(self) -> str:
        return f"{self.keep}-{self.importance}"

    @property
    def title(self) -> str:
        return f"{self.keep}, {'chance' if self.importance == 'random' else 'reconstruction'}"

    def recipe(self) -> str:
        keep = '"auto"' if self.keep == "auto" else self.keep
        return f'{RECIPE.read_text()}keep_macs = {keep}\nimportance = "{self.importance}"\n'


def built(amount: Amount, out: Path) -> Report:
    """Run the build, unless it is done, and keep its report and files in ``OUT/<label>``."""
    folder = out / amount.label
    if not (folder / "report.json").exists():
        config = out / f"{amount.label}.toml"
        config.write_text(amount.recipe())
        command = [sys.executable, "-m", "edgekit", "build", "-c", str(config), "-o", str(out / "build")]
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode not in (0, 7):  # 7: int8 may miss the budget
            sys.exit(f"the build of {amount.label} ended with exit code {done.returncode}")
        shutil.copytree(out / "build" / "variants", folder / "variants", dirs_exist_ok=True)
        shutil.copyfile(out / "build" / "report.json", folder / "report.json")
    return Report.model_validate_json((folder / "report.json").read_text())


def _variant(report: Report, format: str, name: str) -> Variant:
    return next(
        row for target in report.targets for row in target.variants if row.format == format and row.name == name
    )


def _jobs(amount: Amount, report: Report, out: Path) -> dict[str, Job]:
    """Return by content the files that this host can time; a Jetson's int8 file is for its GPU."""
    wanted = [(format, name) for format in ("tflite", "onnx") for name in ("float32", "pruned-float32")]
    wanted += [("tflite", "int8"), ("tflite", "pruned-int8")]
    found = [_variant(report, format, name) for format, name in wanted]
    return {row.sha256: Job(row.sha256, out / amount.label / row.file, row.format) for row in found}


def _row(amount: Amount, report: Report, times: dict[str, Latency]) -> str:
    prune = report.prune
    assert prune is not None

    def speed(format: str, name: str) -> str:
        before, after = (times[_variant(report, format, one).sha256] for one in ("float32", name))
        return f"{before.min_ms / after.min_ms:.2f}x ({before.p50_ms / after.p50_ms:.2f}x)"

    def accuracy(format: str, name: str) -> Accuracy:
        found = _variant(report, format, name).accuracy
        assert found is not None
        return found

    cells = [
        amount.title,
        f"{prune.macs_after / prune.macs_before:.1%}",
        f"{prune.parameters_after / prune.parameters_before:.1%}",
        f"{100 * accuracy('tflite', 'pruned-float32').value:.2f}",
        _lost(accuracy("tflite", "pruned-float32")),
        speed("tflite", "pruned-float32"),
        speed("onnx", "pruned-float32"),
        _lost(accuracy("tflite", "pruned-int8")),
        speed("tflite", "pruned-int8"),
        _lost(accuracy("onnx", "pruned-int8")),
        f"{60 * prune.minutes:.0f} s, {len(prune.tried)} cut",
    ]
    return f"| {' | '.join(cells)} |"


def _lost(accuracy: Accuracy) -> str:
    return f"{accuracy.drop_points:.2f} [{accuracy.drop_low_points:.2f}, {accuracy.drop_high_points:.2f}]"


def main() -> None:
    """Build, time, and print the table."""
    parser = argparse.ArgumentParser(description="Prune an ONNX network in whole builds and print what it bought.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--keep", nargs="*", default=["auto", "0.6", "0.55", "0.5"])
    parser.add_argument("--random", nargs="*", default=["0.5"], help="the same amounts ranked by chance")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing, for each file")
    options = parser.parse_args()
    prepare(options.out)
    amounts = [*map(Amount, options.keep), *(Amount(keep, "random") for keep in options.random)]
    reports = {amount: built(amount, options.out) for amount in amounts}
    jobs = {name: job for amount, report in reports.items() for name, job in _jobs(amount, report, options.out).items()}
    with open_device("local") as device:
        settings = Settings(**single.how_long(options.seconds, False, None))
        times = measure(list(jobs.values()), None, threads=1, device=device, settings=settings)
    print(_HEAD)
    first = _variant(next(iter(reports.values())), "tflite", "float32").accuracy
    if first is not None:
        print(f"| unpruned | 100 % | 100 % | {100 * first.value:.2f} of {first.samples} |" + " |" * 7)
    for amount, report in reports.items():
        print(_row(amount, report, times))


if __name__ == "__main__":
    main()
