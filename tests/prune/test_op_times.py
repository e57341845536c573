"""The latency model: from op shapes over micro-benchmarks to a choice, in the real runtimes and without a stopwatch."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import prune_graphs
import pytest

from edgekit import keras_io
from edgekit.convert import float_graph, tflite
from edgekit.devices.local import LocalDevice
from edgekit.profile.latency import Job
from edgekit.profile.latency import measure as measure_files
from edgekit.profile.schedule import Settings
from edgekit.prune.keras.graph import analyze
from edgekit.prune.latency import cache, onnx_model, tflite_model
from edgekit.prune.latency.aim import largest_share_for, predicted_ms, predicted_speedup
from edgekit.prune.latency.cost import MeanLatency, TableLatency
from edgekit.prune.latency.costs import cost_named, predictions
from edgekit.prune.latency.grid import Grid, Point, all_points, grid_of
from edgekit.prune.latency.measure import measure
from edgekit.prune.latency.of_keras import run
from edgekit.prune.latency.ops import ops_of
from edgekit.prune.latency.shapes import Op, OpShape
from edgekit.prune.latency.table import Place, Table
from edgekit.prune.latency.tables import place_of, table_of
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import Selection, select
from edgekit.prune.selection.ledger import Ledger, total
from edgekit.runtimes import litert, ort
from edgekit.runtimes.agent import synthetic_inputs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]  # Keras saves
PLACE = Place("local", "a CPU", "ai-edge-litert 2.3.0", "tflite", "float32", 1)
CONV = OpShape("conv", (8, 8), (3, 3))
KINDS = {
    "conv": OpShape("conv", (9, 9), (3, 3), (2, 2)),
    "dilated": OpShape("conv", (9, 9), (3, 3), dilation=(2, 2)),
    "valid": OpShape("conv", (9, 9), (3, 3), padding="valid"),
    "depthwise": OpShape("depthwise", (8, 8), (3, 3), (2, 2)),
    "transposed": OpShape("transposed", (8, 8), (3, 3), (2, 2)),
    "dense": OpShape("dense", (4, 1)),
    "max_pool": OpShape("max_pool", (8, 8), (2, 2), (2, 2)),
    "average_pool": OpShape("average_pool", (8, 8), (2, 2), (2, 2)),
    **{kind: OpShape(kind, (8, 8)) for kind in ("global", "add", "mul", "sigmoid", "concat")},
    **{kind: OpShape(kind, (8, 8), stride=(2, 2)) for kind in ("nearest", "bilinear")},
}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latency"


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_op_runs_in_both_runtimes_with_the_output_it_has_in_a_network(
    kind: str, int8: bool, tmp_path: Path
) -> None:
    shape = KINDS[kind]
    for format, write, runtime in (("tflite", tflite_model.write, litert), ("onnx", onnx_model.write, ort)):
        path = tmp_path / f"op.{format}"
        path.write_bytes(write(shape, 24, 16, int8))
        session = runtime.open_model(str(path))
        session.set_inputs(synthetic_inputs(session.inputs, 0))
        session.invoke()
        (output,) = session.outputs_now()
        pooled = format == "onnx" and shape.kind in onnx_model.BETWEEN
        height, width = (1, 1) if pooled else shape.output_size
        assert output.size == height * width * 16
        int8_kernel = int8 and not (format == "onnx" and kind == "transposed")
        assert output.dtype.itemsize == (1 if int8_kernel else 4)


def shapes_of(inputs: keras.KerasTensor, outputs: keras.KerasTensor) -> list[tuple[str, int, int]]:
    ops = ops_of(analyze(keras.Model(inputs, outputs)))
    return [(op.shape.key if op.shape else "", len(op.inputs), len(op.outputs)) for op in ops]


def test_the_ops_of_a_network_are_listed_with_what_they_run_on() -> None:
    i = keras.Input((32, 24, 3))
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same")(i)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.SeparableConv2D(32, 5, padding="valid", activation="silu")(x)
    x = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    assert shapes_of(i, x) == [
        ("conv 32x24 k3x3 s2x2 d1x1 same", 3, 16),
        ("depthwise 16x12 k5x5 s1x1 d1x1 valid", 16, 16),
        ("conv 12x8 k1x1 s1x1 d1x1 same", 16, 32),
        ("sigmoid 12x8 k1x1 s1x1 d1x1 same", 32, 32),
        ("mul 12x8 k1x1 s1x1 d1x1 same", 32, 32),
        ("global 12x8 k1x1 s1x1 d1x1 same", 32, 32),
        ("dense 1x1 k1x1 s1x1 d1x1 same", 32, 10),
    ]


def test_a_batch_norm_that_no_kernel_takes_in_costs_time() -> None:
    i = keras.Input((8, 8, 3))
    x = keras.layers.Concatenate()([keras.layers.Conv2D(8, 1)(i), keras.layers.Conv2D(8, 3, padding="same")(i)])
    x = keras.layers.Conv2D(4, 1)(keras.layers.BatchNormalization()(x))
    assert [key.split()[0] for key, _, _ in shapes_of(i, x)] == ["conv", "conv", "concat", "mul", "add", "conv"]


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
def test_every_multiply_accumulate_is_in_some_op(name: str) -> None:
    graph = analyze(prune_graphs.build(name))
    counted = sum(
        term.factor * len(term.inputs) * len(term.outputs) for op in ops_of(graph) for term in op.terms
    )  # fmt: skip
    assert counted == graph.macs()


def op(width_in: int, width_out: int, shape: OpShape = CONV) -> Op:
    return Op("layer", shape, np.arange(width_in), np.arange(width_out))


def test_the_grid_covers_what_pruning_can_reach() -> None:
    grid = grid_of(op(64, 128), 0.5)
    assert grid is not None
    assert (grid.inputs, grid.outputs) == ((32, 64), (64, 80, 96, 112, 128))
    grid = grid_of(op(64, 40), 0.9)
    assert grid is not None
    assert (grid.inputs, grid.outputs) == ((8, 32, 64), (8, 16, 24, 32, 40))


def test_a_layer_that_stays_is_timed_at_its_one_width() -> None:
    frozen = Op("head", CONV, np.arange(32), np.full(10, -1))
    grid = grid_of(frozen, 0.5)
    assert grid is not None
    assert grid.outputs == (10,)


def table(times: dict[int, int], into: int = 32) -> tuple[Table, Grid]:
    """A conv's table: nanoseconds by width out."""
    grid = Grid(CONV, (into,), tuple(sorted(times)))
    return Table(PLACE, {Point(CONV, into, out).key: spent for out, spent in times.items()}), grid


def test_a_width_between_two_measured_ones_costs_what_the_wider_does() -> None:
    measured, grid = table({16: 100, 32: 200, 48: 390})
    assert [measured.time_ns(grid, 32, out) for out in (16, 17, 32, 33, 48)] == [100, 200, 200, 390, 390]


def test_widths_in_are_interpolated() -> None:
    grid = Grid(CONV, (16, 32), (32,))
    measured = Table(PLACE, {Point(CONV, 16, 32).key: 100, Point(CONV, 32, 32).key: 180})
    assert [measured.time_ns(grid, into, 32) for into in (16, 24, 32)] == [100, 140, 180]


@pytest.mark.parametrize(
    ("tile", "expected"), [(8, 8), (16, 16), (32, 32)]
)  # fmt: skip
def test_the_step_is_the_tile_of_the_kernels(tile: int, expected: int) -> None:
    measured, grid = table({width: 100 * -(-width // tile) for width in range(8, 136, 8)})
    assert measured.step([grid]) == expected


def test_without_enough_widths_the_step_is_sixteen() -> None:
    measured, grid = table({10: 100})
    assert measured.step([grid]) == 16


def staircase(graph_name: str = "chain", tile: int = 32) -> tuple[object, TableLatency]:
    """A made-up machine whose convolutions come in tiles of output channels."""
    graph = analyze(prune_graphs.build(graph_name))
    grids = [grid for one in ops_of(graph) if (grid := grid_of(one, 0.9)) is not None]
    times = {p.key: max(p.channels_in, 8) * -(-p.channels_out // tile) for p in all_points(grids)}
    return graph, TableLatency(Table(PLACE, times), 0.9, 8)


def test_the_choice_passes_over_widths_that_buy_nothing() -> None:
    graph, cost = staircase()
    selection = select(graph, np.ones(graph.unit_count), cost, 0.8, min_channels=8, max_layer_cut=0.75)
    assert selection.cost.unit == "ms"
    widths = {width.layers[0]: width.after for width in selection.widths}
    assert selection.cost.after == total(cost.parts(graph), selection.mask(graph))
    for width in widths.values():  # from 32 to 24 only the next layer's input gets cheaper: never its own tile
        assert width % 8 == 0


def test_a_ledger_of_times_agrees_with_pricing_anew() -> None:
    graph, cost = staircase("separable" if "separable" in prune_graphs.GRAPHS else "chain")
    ledger, kept = Ledger(graph, cost), graph.all_kept()
    kept[list(graph.blocks[0].units[:8])] = False
    ledger.move(0, -8)
    assert ledger.total == pytest.approx(total(ledger.parts, kept), rel=1e-12)


def test_several_places_count_by_their_share() -> None:
    graph, slow = staircase()
    fast = TableLatency(Table(PLACE, dict.fromkeys(slow.table.times_ns, 1)), 0.9, 32)
    both = MeanLatency((slow, fast))
    kept = graph.all_kept()
    assert total(both.parts(graph), kept) == pytest.approx(1.0)
    assert both.step == 8
    kept[list(graph.blocks[0].units[:16])] = False
    shares = [total(place.parts(graph), kept) / total(place.parts(graph), graph.all_kept()) for place in (slow, fast)]
    assert total(both.parts(graph), kept) == pytest.approx(sum(shares) / 2)


def test_a_speedup_counts_from_float_to_the_fastest_precision_of_the_slowest_runtime() -> None:
    graph, slow = staircase()
    times = slow.table.times_ns

    def at(format: str, precision: str, factor: float) -> TableLatency:
        place = Place("local", "a CPU", "a runtime", format, precision, 1)
        return TableLatency(Table(place, {key: round(100 * factor * ns) for key, ns in times.items()}), 0.9, 8)

    tflite_float, tflite_int8, onnx_float = (
        at("tflite", "float32", 1),
        at("tflite", "int8", 0.25),
        at("onnx", "float32", 3),
    )
    kept = graph.all_kept()
    both = MeanLatency((tflite_float, tflite_int8))
    assert predicted_speedup(both, graph, kept) == pytest.approx(4.0, rel=0.02)
    assert predicted_speedup(MeanLatency((*both.places, onnx_float)), graph, kept) == pytest.approx(1.0)
    kept[list(graph.blocks[0].units[:16])] = False
    found = predicted_speedup(both, graph, kept)
    assert found is not None
    assert found > 4.1
    assert predicted_speedup(MeanLatency((tflite_int8,)), graph, kept) is None
    assert predicted_speedup(cost_named("macs", graph, [])[0], graph, kept) is None


def test_an_amount_is_found_for_a_speedup_and_for_milliseconds() -> None:
    graph, place = staircase()
    cost = MeanLatency((place,))

    def choice(keep: float) -> Selection:
        return select(graph, np.ones(graph.unit_count), cost, keep, keep_of=Macs(), max_layer_cut=0.75)

    def after(aim: dict[str, float | None]) -> float:
        keep = largest_share_for(aim, cost, graph, choice)
        assert keep is not None
        return total(place.parts(graph), choice(keep).mask(graph))

    whole = total(place.parts(graph), graph.all_kept())
    assert predicted_ms(cost, graph, graph.all_kept()) == pytest.approx(whole)
    assert 1.5 <= whole / after({"speedup": 1.5, "latency_ms": None}) < 1.9  # widths come in steps
    assert after({"speedup": None, "latency_ms": whole / 1.5}) == after({"speedup": 1.5, "latency_ms": None})
    assert after({"speedup": 1.2, "latency_ms": whole / 1.5}) == after({"speedup": 1.5, "latency_ms": None})
    assert largest_share_for({"speedup": None, "latency_ms": None}, cost, graph, choice) is None
    assert largest_share_for({"speedup": 2.0, "latency_ms": 1.0}, Macs(), graph, choice) is None


def test_an_op_that_could_not_be_timed_counts_by_its_macs() -> None:
    graph, cost = staircase()
    one = [entry for entry in ops_of(graph) if entry.shape is not None][1]
    grid = grid_of(one, 0.9)
    assert grid is not None
    gone = {point.key for point in grid.points()}
    times = {key: spent for key, spent in cost.table.times_ns.items() if key not in gone}
    parts = {part.layer: part for part in TableLatency(Table(PLACE, times), 0.9, 8).parts(graph)}
    full = parts[one.layer].price((32, 32))
    assert parts[one.layer].price((16, 16)) == pytest.approx(full / 4)
    assert full > 0


def test_measuring_gives_each_point_a_time_and_names_what_is_refused() -> None:
    points = [Point(CONV, 8, 8), Point(CONV, 64, 64), Point(OpShape("depthwise", (8, 8), (3, 3)), 0, 16)]
    impossible = Point(OpShape("conv", (2, 2), (5, 5), padding="valid"), 8, 8)
    for format in ("tflite", "onnx"):
        with LocalDevice() as device:
            timed = measure([*points, impossible], device=device, format=format, int8=False, threads=1, seconds=0.0)
        assert set(timed.points) == set(points), timed.refused
        assert timed.points[points[1]] > timed.points[points[0]] >= 0  # 64 times the work
        assert set(timed.refused) == {impossible}


def test_a_second_time_comes_from_the_cache(own_cache: Path) -> None:
    grids = [Grid(CONV, (8,), (8, 16))]
    with LocalDevice() as device:
        place = place_of(device, "tflite", "float32", 1)
        assert place is not None
        first = table_of(place, grids, device, 0.0)
        again = table_of(place, grids, device, 0.0)
        more = table_of(place, [*grids, Grid(CONV, (16,), (8,))], device, 0.0)
    assert (first.timed, again.timed, more.timed) == (2, 0, 1)
    assert first.table == again.table
    assert set(more.table.times_ns.items()) > set(first.table.times_ns.items())


def test_a_broken_cache_is_timed_again_and_that_is_said(own_cache: Path) -> None:
    with LocalDevice() as device:
        place = place_of(device, "tflite", "float32", 1)
        assert place is not None
        path = cache.file_of(place)
        path.parent.mkdir(parents=True)
        path.write_text('{"identity": {')
        found = table_of(place, [Grid(CONV, (8,), (8,))], device, 0.0)
    assert found.timed == 1
    assert "could not be read" in found.notes[0]
    assert str(path) in found.notes[0]
    assert len(json.loads(path.read_text())["times_ns"]) == 1


def test_what_is_known_already_stays(own_cache: Path) -> None:
    cache.add(PLACE, {"a": 1})
    assert cache.add(PLACE, {"a": 2, "b": 3}) == {"a": 1, "b": 3}
    assert cache.load(PLACE) == ({"a": 1, "b": 3}, "")
    assert [path.suffix for path in own_cache.iterdir()] == [".json"]


def test_another_cpu_or_runtime_version_has_times_of_its_own(own_cache: Path) -> None:
    others = [
        Place("local", "another CPU", PLACE.runtime, "tflite", "float32", 1),
        Place("local", PLACE.cpu, "ai-edge-litert 2.4.0", "tflite", "float32", 1),
        Place("local", PLACE.cpu, PLACE.runtime, "tflite", "float32", 4),
    ]
    assert len({cache.file_of(place) for place in (PLACE, *others)}) == 4
    assert cache.file_of(Place("ssh://pi@board", *list(vars(PLACE).values())[1:])) == cache.file_of(PLACE)


def told(done: float, what: str) -> None:
    assert 0.0 <= done <= 1.0
    assert what


def test_the_step_writes_the_same_bytes_again_and_pruning_reads_them(own_cache: Path, tmp_path: Path) -> None:
    model = prune_graphs.build("chain")
    path = tmp_path / "model.keras"
    keras_io.save(model, path)
    places = [
        {"device": "local", "format": format, "precision": "float32", "threads": 1} for format in ("tflite", "onnx")
    ]
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result = run(out=tmp_path / name, progress=told, model=path, places=places, largest_cut=0.5)
        written.append((tmp_path / name / "costs.json").read_bytes())
    assert written[0] == written[1]
    assert [place["timed"] for place in result["places"]] == [0, 0]
    graph = analyze(model)
    cost, note = cost_named("latency", graph, [tmp_path / "one" / "costs.json"])
    assert (cost.name, note) == ("latency", "")
    selection = select(graph, np.ones(graph.unit_count), cost, 0.8)
    predicted = predictions(cost, graph, selection.mask(graph))
    assert [entry["place"].split(",")[0] for entry in predicted] == ["ai-edge-litert 2.3.0", "onnxruntime 1.31.1"]
    assert all(entry["after_ms"] <= entry["before_ms"] for entry in predicted)


def test_where_nothing_can_be_timed_macs_are_cut_and_that_is_said() -> None:
    graph = analyze(prune_graphs.build("chain"))
    cost, note = cost_named("latency", graph, [])
    assert cost.name == "macs"
    assert "multiply-accumulates" in note
    assert cost_named("parameters", graph, [])[0].name == "parameters"


def test_a_device_out_of_reach_is_left_out_with_a_note(own_cache: Path, tmp_path: Path) -> None:
    model = prune_graphs.build("chain")
    keras_io.save(model, tmp_path / "model.keras")
    place = {"device": "ssh://nobody@127.0.0.1:9", "format": "tflite", "precision": "float32", "threads": 1}
    result = run(out=tmp_path, progress=told, model=tmp_path / "model.keras", places=[place], largest_cut=0.5)
    assert result["places"] == []
    assert "ssh://nobody@127.0.0.1:9 was left out" in result["notes"][0]


def test_the_prediction_ranks_whole_networks_as_the_runtime_does(tmp_path: Path, own_cache: Path) -> None:
    """Widths far enough apart that no neighbour on the machine turns the order of the fastest calls around."""
    jobs, graphs = [], {}
    for width in (16, 48, 96):
        i = keras.Input((48, 48, 3))
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(i)
        for _ in range(3):
            x = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        model = keras.Model(i, keras.layers.GlobalAveragePooling2D()(x))
        float_graph.export_keras(model, tmp_path / str(width))
        path = tmp_path / f"{width}.tflite"
        path.write_bytes(tflite.float32(tmp_path / str(width)))
        jobs.append(Job(str(width), path, "tflite"))
        graphs[str(width)] = analyze(model)
    with LocalDevice() as device:
        place = place_of(device, "tflite", "float32", 1)
        assert place is not None
        predicted = {}
        for name, graph in graphs.items():
            grids = [grid_of(one, 0.5) for one in ops_of(graph)]
            latency = TableLatency(table_of(place, grids, device, 2.0).table, 0.5, 8)
            predicted[name] = total(latency.parts(graph), graph.all_kept())
        settings = Settings(samples=20, seconds=0.1, limit_s=1.0, warmup_s=0.05, rounds=5, ops_runs=0)
        measured = measure_files(jobs, None, threads=1, device=device, settings=settings)
    times = {name: latency.min_ms for name, latency in measured.items()}
    assert sorted(predicted, key=predicted.__getitem__) == sorted(times, key=times.__getitem__) == ["16", "48", "96"]
    assert all(0.5 < predicted[name] / times[name] < 2.0 for name in ("48", "96")), (predicted, times)
