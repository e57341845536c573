"""How well the latency model of pruning predicts, and what choosing by it buys over choosing by MACs.

    python -m benchmarks.latency_model [RECIPE] [--keep 0.75 0.55 0.4 0.3] [--cut 0.8]

Cuts the recipe's Keras model to several shares of its predicted time, nothing recovered, and each time by MACs as far
as loses the same share of importance; times all networks in turns on this host, one thread, in LiteRT and ONNX Runtime,
float32 and int8, and prints what was predicted beside what was measured.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgekit import keras_io, recipe
from edgekit.artifact import TensorSpec
from edgekit.convert import float_graph, onnx, tflite
from edgekit.dataset import Preprocess, open_dataset
from edgekit.devices import open_device
from edgekit.profile.latency import Job, measure
from edgekit.profile.schedule import Settings
from edgekit.prune.keras import surgery
from edgekit.prune.keras.functional import as_functional
from edgekit.prune.keras.graph import ChannelGraph, analyze
from edgekit.prune.keras.importance import IMPORTANCE
from edgekit.prune.keras.signature import input_names
from edgekit.prune.latency.cost import MeanLatency, TableLatency
from edgekit.prune.latency.grid import grid_of
from edgekit.prune.latency.ops import ops_of
from edgekit.prune.latency.tables import place_of, table_of
from edgekit.prune.selection.cost import Cost, Macs
from edgekit.prune.selection.greedy import Selection, select
from edgekit.prune.selection.ledger import total

_DIGITS = Path(__file__).parents[1] / "sample_models" / "digits_detector" / "edgekit.toml"
_PLACES = (("tflite", "float32"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8"))
_SECONDS = 60.0  # for each table
_SAMPLES = 192  # that importance is taken from
_BISECTIONS = 12
_SETTINGS = Settings(samples=60, seconds=0.6, limit_s=4.0, rounds=15, ops_runs=0)


@dataclass(frozen=True)
class Network:
    """One cut, and how it was chosen."""

    name: str
    selection: Selection | None
    model: keras.Model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, nargs="?", default=_DIGITS)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.75, 0.55, 0.4, 0.3])
    parser.add_argument("--cut", type=float, default=0.8, help="largest share of a layer that may go")
    parser.add_argument("--files", type=Path, help="keep the converted files here, and use those that are here")
    arguments = parser.parse_args()
    model, inputs = _loaded(recipe.load(arguments.recipe))
    graph = analyze(model)
    cost = _latency(graph, arguments.cut)
    ranking = IMPORTANCE["taylor"](model, graph, inputs, 0)
    networks = [Network("unpruned", None, model)]
    for keep in arguments.keep:
        by_time = _cut(graph, ranking, cost, keep, arguments.cut)
        by_macs = _losing(graph, ranking, Macs(), by_time.loss, arguments.cut)
        for name, selection in ((f"time {keep:.2f}", by_time), (f"MACs, loss as {keep:.2f}", by_macs)):
            networks.append(Network(name, selection, surgery.prune(model, graph, selection)))
    _print(graph, cost, networks, _measured(networks, arguments.files))


def _loaded(written: recipe.Recipe) -> tuple[keras.Model, dict[str, Any]]:
    model = as_functional(keras_io.load(written.model.path))
    preprocess = Preprocess.from_json(written.preprocess.model_dump(mode="json"))
    data, classes = written.data, list(written.task.classes)
    samples = open_dataset(data.kind, data.calibration, None, preprocess, labelled=False, classes=classes)
    specs = tuple(
        TensorSpec(name, (1, *tensor.shape[1:]), str(tensor.dtype))
        for name, tensor in zip(input_names(model), model.inputs, strict=True)
    )
    return model, {name: array[:_SAMPLES] for name, array in samples.stacked(specs).items()}


def _latency(graph: ChannelGraph, cut: float) -> MeanLatency:
    grids = [grid for op in ops_of(graph) if (grid := grid_of(op, cut)) is not None]
    places = []
    with open_device("local") as device:
        for format, precision in _PLACES:
            place = place_of(device, format, precision, 1)
            assert place is not None
            found = table_of(place, grids, device, _SECONDS)
            step = found.table.step(grids)
            print(f"{place.title}: {found.timed} of {len(found.table.times_ns)} points timed now, step {step}")
            places.append(TableLatency(found.table, cut, step))
    return MeanLatency(tuple(places))


def _cut(graph: ChannelGraph, ranking: Any, cost: Cost, keep: float, cut: float) -> Selection:
    return select(graph, ranking, cost, keep, round_to="auto", max_layer_cut=cut)


def _losing(graph: ChannelGraph, ranking: Any, cost: Cost, loss: float, cut: float) -> Selection:
    """Return the deepest cut by another cost that loses at most this share of the importance."""
    low, high = 0.0, 1.0
    best = _cut(graph, ranking, cost, high, cut)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        found = _cut(graph, ranking, cost, middle, cut)
        if found.loss <= loss:
            high, best = middle, found
        else:
            low = middle
    return best


def _measured(networks: Sequence[Network], kept: Path | None) -> dict[str, dict[tuple[str, str], float]]:
    """Return the least milliseconds of each network by name, and by format and precision."""
    with tempfile.TemporaryDirectory() as name, open_device("local") as device:
        jobs = [job for network in networks for job in _jobs(network, kept or Path(name))]
        times = measure(jobs, None, threads=1, device=device, settings=_SETTINGS)
    return {
        network.name: {place: times[f"{network.name} {' '.join(place)}"].min_ms for place in _PLACES}
        for network in networks
    }


def _jobs(network: Network, folder: Path) -> Iterator[Job]:
    units = network.selection.kept if network.selection else ()
    stem = f"{network.name.replace(' ', '-')}-{hashlib.sha256(str(units).encode()).hexdigest()[:8]}"
    for format, precision in _PLACES:
        path = folder / f"{stem}-{precision}.{format}"
        if not path.exists():
            print(f"converting: {path.name}", flush=True)
            _convert(network.model, folder / stem, path, precision)
        yield Job(f"{network.name} {format} {precision}", path, format)


def _convert(model: keras.Model, saved: Path, path: Path, precision: str) -> None:
    if not saved.exists():
        float_graph.export_keras(model, saved)
    random = np.random.default_rng(0)
    images = [random.random((1, *model.inputs[0].shape[1:]), np.float32) for _ in range(4)]  # good for timing alone
    if path.suffix == ".tflite":
        path.write_bytes(tflite.float32(saved) if precision == "float32" else _int8(saved, images))
    elif precision == "float32":
        path.write_bytes(onnx.float32(saved))
    else:
        source = path.with_name(path.name.replace("int8", "float32"))
        quantize_static(
            source, path, _Images(input_names(model)[0], images), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip


def _int8(saved: Path, images: Sequence[Any]) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in images)
    return bytes(converter.convert())


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, images: Sequence[Any]) -> None:
        self._feeds = iter([{name: image} for image in images])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _print(
    graph: ChannelGraph, cost: MeanLatency, networks: Sequence[Network], measured: dict[str, dict[Any, float]]
) -> None:
    titles = [f"{'LiteRT' if format == 'tflite' else 'ORT'} {precision}" for format, precision in _PLACES]
    print("\n| chosen by | MACs | importance lost |" + "".join(f" {title} |" for title in titles) + "\n|" + "---|" * 7)
    errors: dict[str, list[float]] = {title: [] for title in titles}
    base = measured["unpruned"]
    for network in networks:
        kept = network.selection.mask(graph) if network.selection else graph.all_kept()
        cells = []
        for place, title, table in zip(_PLACES, titles, cost.places, strict=True):
            parts = table.parts(graph)
            whole, now = total(parts, graph.all_kept()), total(parts, kept)
            took = measured[network.name][place]
            if network.selection is None:
                cells.append(f"{whole:.2f} / **{took:.2f} ms**")
                continue
            predicted, real = whole / now, base[place] / took
            errors[title].append(abs(predicted / real - 1))
            cells.append(f"{predicted:.2f} / **{real:.2f}**")
        loss = network.selection.loss if network.selection else 0.0
        print(f"| {network.name} | {graph.macs(kept) / graph.macs():.0%} | {loss:.2%} | {' | '.join(cells)} |")
    print("\nmean error of the predicted speed-up: " + ", ".join(f"{k} {np.mean(v):.0%}" for k, v in errors.items()))


if __name__ == "__main__":
    main()
