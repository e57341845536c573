"""Prune the families of keras.applications by half of their multiply-accumulates, and time what that bought.

    python -m benchmarks.families [FAMILY ...] [--size 224] [--keep 0.5] [--seconds 5]

Weights are random (nothing is downloaded), batch-norm statistics too, so the cut says nothing about accuracy: it shows
that every family can be cut, exactly, how long that takes and what it is worth in LiteRT. Units are ranked by L2.
One Markdown table goes to stdout; unpruned and pruned, float and int8, are timed in turns on one thread.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit import worker
from edgekit.convert import float_graph, tflite, tflite_quantized
from edgekit.errors import EdgekitError
from edgekit.progress import Progress
from edgekit.prune.keras import surgery
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.importance import l2
from edgekit.prune.keras.signature import input_names
from edgekit.prune.selection.cost import COUNTED
from edgekit.prune.selection.greedy import select
from edgekit.quantize.calibrate import ranges
from edgekit.quantize.decide import decide

FAMILIES = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetV2B0",
    "ResNet50",
    "DenseNet121",
    "NASNetMobile",
    "ConvNeXtTiny",
)
_HEAD = (
    "| family | MACs kept | parameters kept | seconds | exactness error | float x, min (p50) | int8 x, min (p50) |\n"
    "|---|---|---|---|---|---|---|"
)
_CALIBRATION_SAMPLES = 4  # of noise: ranges decide nothing about speed


def build(name: str, size: int, classes: int = 1000) -> keras.Model:
    """Make a family's network for (size, size, 3) with random weights, scales and statistics."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        weights=None,
        input_shape=(size, size, 3),
        classes=classes,
        classifier_activation=None,  # a softmax of random logits is 0 or 1 whatever is wrong before it
    )
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("bias", "beta", "moving_mean"):
            weight.assign(random.uniform(-0.2, 0.2, weight.shape))
        elif len(weight.shape) == 1:  # ConvNeXt's layer scale: its 1e-6 would hide every branch
            weight.assign(random.uniform(0.2, 0.6, weight.shape))
    return model


def cut(*, out: Path, progress: Progress, name: str, size: int, keep: float) -> dict[str, Any]:
    """Write ``{whole,pruned}-{float32,int8}.tflite``; return the figures of the cut. Runs in a child process."""
    model = build(name, size)
    inputs = {input_names(model)[0]: np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)}
    started = time.perf_counter()
    graph = analyze(model)
    selection = select(graph, l2(model, graph, inputs, 0), COUNTED["macs"](), keep)
    pruned = surgery.prune(model, graph, selection)
    seconds = time.perf_counter() - started
    error = surgery.verify_exact(model, graph, selection, pruned, inputs)
    for kind, network in (("whole", model), ("pruned", pruned)):
        float_graph.export_keras(network, out / kind)
        path = out / f"{kind}-float32.tflite"
        path.write_bytes(tflite.float32(out / kind))
        noise = np.random.default_rng(1).uniform(0, 255, (_CALIBRATION_SAMPLES, 1, size, size, 3)).astype(np.float32)
        name_there = float_graph.input_names(network)[0]
        found = ranges(path, "tflite", ({name_there: sample} for sample in noise))
        plan = decide(path, "tflite", "int8", ranges=found, samples=_CALIBRATION_SAMPLES)
        (out / f"{kind}-int8.tflite").write_bytes(tflite_quantized.emit(path, plan))
    return {
        "macs": selection.macs_after / selection.macs_before,
        "params": selection.params_after / selection.params_before,
        "seconds": seconds,
        "error": error,
    }


def main() -> None:
    """Cut and time family by family; print a row as soon as it is measured."""
    options = _parse_options()
    print(_HEAD, flush=True)
    for name in options.families or FAMILIES:
        with tempfile.TemporaryDirectory(prefix="families-") as temporary:
            print(_row(name, Path(temporary), options), flush=True)


def _row(name: str, folder: Path, options: argparse.Namespace) -> str:
    try:
        print(f"{name}: cutting and converting", file=sys.stderr, flush=True)
        settings = {"name": name, "size": options.size, "keep": options.keep}
        done = worker.run("benchmarks.families:cut", settings, folder, lambda share, text: None, label=name)
        figures = [
            name,
            f"{done['macs']:.3f}",
            f"{done['params']:.3f}",
            f"{done['seconds']:.1f}",
            f"{done['error']:.1e}",
        ]
        times = _time(sorted(folder.glob("*.tflite")), folder, options.seconds)
    except EdgekitError as error:
        return f"| {name} | {error.message.splitlines()[0].replace('|', '/')} | | | | | |"
    return f"| {' | '.join([*figures, _gain(times, 'float32'), _gain(times, 'int8')])} |"


def _time(files: list[Path], folder: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Return the latency of each file by its stem, all timed in turns."""
    jobs = [{"name": path.stem, "path": path, "format": "tflite", "expected": None} for path in files]
    settings = {"samples": 100, "seconds": seconds, "limit_s": 120.0, "rounds": 20, "seed": 0, "ops_runs": 0}
    arguments = {"jobs": jobs, "inputs": None, "threads": 1, "device": "local", "settings": settings}
    out = folder / "timing"
    out.mkdir()
    timed = worker.run("edgekit.profile.stage:latency", arguments, out, lambda share, text: None, label="timing")
    measured: dict[str, dict[str, float]] = timed["measured"]
    return measured


def _gain(times: dict[str, dict[str, float]], precision: str) -> str:
    whole, pruned = times.get(f"whole-{precision}"), times.get(f"pruned-{precision}")
    if whole is None or pruned is None:
        return "does not run"
    return f"{whole['min_ms'] / pruned['min_ms']:.2f} ({whole['p50_ms'] / pruned['p50_ms']:.2f})"


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prune keras.applications by half, and time it.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all by default")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--keep", type=float, default=0.5, help="share of the multiply-accumulates to keep")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing, for each file")
    options = parser.parse_args()
    unknown = [name for name in options.families if name not in FAMILIES]
    if unknown:
        parser.error(f"no family named {unknown[0]!r}")
    return options


if __name__ == "__main__":
    main()
