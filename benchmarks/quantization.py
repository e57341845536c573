"""Quantize the samples and the hard detector with other tools, and score everything with one metric.

    python -m benchmarks.quantization [MODEL ...] [--peers DIR] [--build MODEL=FOLDER ...] [--out DIR]

MODEL is a name out of MODELS; all of them without one. `--peers DIR` keeps NNCF's own environment, made there on
first use; without it NNCF has no rows. `--build hard_detector=FOLDER` adds what a finished build made of a model.
One Markdown table goes to stdout: accuracy on data/test, size, and time relative to the float file of the same
format, by the fastest call of each, all files of a format timed in turns on one thread.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit import recipe, worker
from edgekit.errors import EdgekitError
from edgekit.profile.accuracy import PREDICTIONS
from edgekit.recipe import Recipe

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_models"
HARD = ROOT / "benchmarks" / "hard_detector"
FORMATS = ("onnx", "tflite")
HEAD = "| model | tool | setting | file | metric | drop, points (95 %) | MB | time / float |\n|" + "---|" * 8


@dataclass(frozen=True)
class Peer:
    """One row of the table: ``function`` names what makes the file; ``options`` are its extra arguments."""

    tool: str
    setting: str
    format: str
    function: str
    options: dict[str, Any]

    @property
    def slug(self) -> str:
        return f"{self.tool} {self.setting}".replace(" ", "-").replace(",", "").lower()


PEERS = (
    Peer("onnxruntime", "quantize_static, default", "onnx", "onnxruntime_static", {"per_channel": False}),
    Peer("onnxruntime", "quantize_static, per-channel, u8", "onnx", "onnxruntime_static", {"per_channel": True}),
    Peer("TFLiteConverter", "int8", "tflite", "tflite_converter", {"calibrated": True}),
    Peer("TFLiteConverter", "dynamic range", "tflite", "tflite_converter", {"calibrated": False}),
    Peer("ai-edge-quantizer", "static int8", "tflite", "ai_edge_quantizer", {}),
)
NNCF_PEERS = (
    Peer("NNCF", "default", "onnx", "nncf", {"preset": "PERFORMANCE"}),
    Peer("NNCF", "preset MIXED", "onnx", "nncf", {"preset": "MIXED"}),
)


@dataclass(frozen=True)
class Model:
    """What is quantized: a recipe, and what writes its model where the file is not there yet."""

    recipe: Path
    written_by: str = ""


MODELS = {
    "hard_detector": Model(HARD / "edgekit.toml"),
    "hard_detector, one tensor": Model(HARD / "one_tensor.toml", "benchmarks.hard_detector.join:run"),
    "digits_detector": Model(SAMPLES / "digits_detector" / "edgekit.toml"),
    "fashion_classifier": Model(SAMPLES / "fashion_classifier" / "edgekit.toml"),
    "text_encoder": Model(SAMPLES / "text_encoder" / "edgekit.toml"),
}


@dataclass
class Row:
    """One file: where it is, or what became of it instead, then its figures."""

    tool: str
    setting: str
    format: str
    path: Path | None
    fault: str = ""
    scored: dict[str, Any] = field(default_factory=dict)
    time_ratio: float | None = None


def main() -> None:
    """Make, score and time everything, model by model; print the table."""
    options = _parse_options()
    builds = dict(entry.split("=", 1) for entry in options.build)
    wanted_peers = [*PEERS, *(NNCF_PEERS if options.peers else ())]
    python = _nncf_environment(options.peers) if options.peers else None
    with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
        print(HEAD, flush=True)
        for name in options.models or MODELS:
            out = (options.out or Path(temporary)) / name.replace(", ", "-").replace(" ", "-")
            rows = compare(MODELS[name], wanted_peers, out, python, options.seconds, builds.get(name))
            for row in rows:
                print(_line(name, row), flush=True)


def compare(
    model: Model, wanted: list[Peer], out: Path, python: Path | None, seconds: float, build: str | None
) -> list[Row]:
    """Return the rows of one model: the float files, the peers' and those of a build."""
    config = recipe.load(model.recipe)
    if not config.model.path.exists() and model.written_by:
        _run(model.written_by, {}, _fresh(out / "source"), "source model")
    floats = _float_files(config, out)
    rows = [Row("float", "float32", format, folder / f"model.{format}") for format, folder in floats.items()]
    for peer in wanted:
        _tell(f"{config.model.path.name}: {peer.tool}, {peer.setting}")
        rows.append(_made_by(peer, floats[peer.format], out, python))
    for path in sorted(Path(build, "variants").iterdir()) if build else ():
        if path.suffix[1:] in FORMATS and "int8" in path.stem and not path.stem.endswith(".float"):
            rows.append(Row("edgekit", path.stem, path.suffix[1:], path))
    for index, row in enumerate(rows):
        if row.path is not None:
            _tell(f"scoring {row.tool}, {row.setting}")
            baseline = None if row.tool == "float" else out / f"score-{_position(rows, row.format)}" / PREDICTIONS
            _score(row, config, _fresh(out / f"score-{index}"), baseline)
    for format in FORMATS:
        _time([row for row in rows if row.format == format and row.scored], format, _fresh(out / "timing"), seconds)
    return rows


def _float_files(config: Recipe, out: Path) -> dict[str, Path]:
    """Write the float model of each format, and the calibration samples beside it; returns the folders."""
    hand_off = _fresh(out / "float")
    _tell(f"exporting {config.model.path.name} of {config.model.path.parent.name}")
    arguments = {
        "model": config.model.path,
        "source": "keras",
        "dataset": _dataset(config, "calibration"),
        "samples": config.quantize.calibration_samples,
    }
    _run("edgekit.convert.stage:float_model", arguments, hand_off, "float model")
    folders = {}
    for format in FORMATS:
        folders[format] = _fresh(out / f"float-{format}")
        arguments = {
            "saved_model": hand_off / "saved_model",
            "reference": hand_off / "reference.npz",
            "inputs": hand_off / "inputs.npz",
            "format": format,
            "precision": "float32",
            "tolerance": config.convert.parity_tolerance,
        }
        _run("edgekit.convert.stage:float_artifact", arguments, folders[format], f"float {format}")
    return folders


def _made_by(peer: Peer, float_folder: Path, out: Path, python: Path | None) -> Row:
    folder = _fresh(out / peer.slug)
    arguments = {
        "float_file": float_folder / f"model.{peer.format}",
        "saved_model": out / "float" / "saved_model",
        "calibration": out / "float" / "inputs.npz",
        **peer.options,
    }
    if peer.function == "nncf":
        arguments["python"] = python
    try:
        _run(f"benchmarks.peers:{peer.function}", arguments, folder, peer.tool)
    except EdgekitError as error:
        return Row(peer.tool, peer.setting, peer.format, None, _first_line(error))
    return Row(peer.tool, peer.setting, peer.format, folder / f"model.{peer.format}")


def _score(row: Row, config: Recipe, out: Path, baseline: Path | None) -> None:
    arguments = {
        "artifact": row.path,
        "format": row.format,
        "dataset": _dataset(config, "test"),
        "task": config.task.model_dump(mode="json", exclude={"adapter", "classes"}),
        "baseline": baseline,
        "resamples": config.profile.bootstrap,
        "seed": 0,
    }
    try:
        row.scored = _run("edgekit.profile.accuracy:run", arguments, out, row.setting)
    except EdgekitError as error:
        row.fault = _first_line(error)


def _time(rows: list[Row], format: str, out: Path, seconds: float) -> None:
    """Set each row's time relative to the first, the float file."""
    _tell(f"timing {len(rows)} .{format} files")
    jobs = [{"name": str(row.path), "path": row.path, "format": format, "expected": None} for row in rows]
    settings = {"samples": 100, "seconds": seconds, "limit_s": 60.0, "rounds": 20, "seed": 0, "ops_runs": 0}
    arguments = {"jobs": jobs, "inputs": None, "threads": 1, "device": "local", "settings": settings}
    timed = _run("edgekit.profile.stage:latency", arguments, out, "latency")
    fastest = {path: latency["min_ms"] for path, latency in timed["measured"].items()}
    for row in rows:
        if str(row.path) in fastest:
            row.time_ratio = fastest[str(row.path)] / fastest[str(rows[0].path)]
        else:
            row.fault = timed["failed"][str(row.path)]


def _line(name: str, row: Row) -> str:
    cells = [name, row.tool, row.setting, row.format]
    if not row.scored:
        return _joined([*cells, row.fault, "", "", ""])
    value = f"{100 * row.scored['value']:.2f}"
    drop = ""
    if row.scored["drop_points"] is not None:
        low, high = row.scored["drop_low_points"], row.scored["drop_high_points"]
        drop = f"{row.scored['drop_points']:+.2f} ({low:+.2f} to {high:+.2f})"
    size_mb = row.path.stat().st_size / 1e6 if row.path else 0.0
    ratio = row.fault if row.time_ratio is None else f"{row.time_ratio:.2f}"
    return _joined([*cells, value, drop, f"{size_mb:.2f}", ratio])


def _joined(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _dataset(config: Recipe, part: str) -> dict[str, Any]:
    return {
        "kind": config.data.kind,
        "path": getattr(config.data, part),
        "labels": config.data.test_labels if part == "test" else None,
        "classes": list(config.task.classes),
        "preprocess": config.preprocess.model_dump(mode="json"),
    }


def _run(function: str, arguments: dict[str, Any], out: Path, label: str) -> dict[str, Any]:
    return worker.run(function, arguments, out, lambda done, text: None, label=label)


def _position(rows: list[Row], format: str) -> int:
    """Return where the float row of this format stands."""
    return next(index for index, row in enumerate(rows) if row.format == format)


def _first_line(error: EdgekitError) -> str:
    return error.message.splitlines()[0]


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _nncf_environment(folder: Path) -> Path:
    """Return the Python of NNCF's environment under ``folder``; make it, with pip, where there is none."""
    python = folder.resolve() / "nncf" / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    if subprocess.run([python, "-c", "import nncf"], capture_output=True).returncode:
        command = [str(python), "-m", "pip", "install", "--quiet", "nncf", "onnx", "onnxruntime"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return python


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Quantize with other tools, and compare.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(map(repr, MODELS))}")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="where NNCF's environment is, or is made")
    parser.add_argument("--build", action="append", default=[], metavar="MODEL=FOLDER", help="a finished build")
    parser.add_argument("--out", type=Path, help="keep the files here (default: they are deleted)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing, for each file")
    options = parser.parse_args()
    unknown = [name for name in options.models if name not in MODELS]
    if unknown:
        parser.error(f"no model named {unknown[0]!r}")
    return options


if __name__ == "__main__":
    main()
