"""Time a network's ops where its targets run, keep the tables in ``costs.json``, and price channels by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.devices import open_device
from edgekit.errors import DeviceError
from edgekit.progress import Progress
from edgekit.prune.channels.graph import BoolArray, ChannelGraph
from edgekit.prune.latency.cost import MeanLatency, TableLatency
from edgekit.prune.latency.grid import Grid, grid_of
from edgekit.prune.latency.ops import ops_of
from edgekit.prune.latency.table import Table
from edgekit.prune.latency.tables import Found, place_of, table_of
from edgekit.prune.selection.cost import COUNTED, Cost, Macs
from edgekit.prune.selection.ledger import total

COSTS = "costs.json"
_SECONDS = 30.0  # for each place where nothing is known yet; the first round ends in any case


def time_ops(
    graph: ChannelGraph, out: Path, progress: Progress, places: Sequence[Mapping[str, Any]], largest_cut: float
) -> dict[str, Any]:
    """Time the ops of a network at the widths that a cut of at most ``largest_cut`` (0..1) reaches.

    ``places``: device, format, precision and threads of each. Writes ``costs.json`` to ``out``: a pure table, the
    same bytes as long as the user's cache has the figures. A device that cannot be reached is left out, with a note.
    """
    grids = [grid_of(op, largest_cut) for op in ops_of(graph)]
    tables: list[Table] = []
    figures: list[dict[str, Any]] = []
    notes: list[str] = []
    for index, wanted in enumerate(places):
        tell = _part_of(progress, index, len(places))
        try:
            found = _table(wanted, grids, tell)
        except DeviceError as error:
            notes.append(f"{wanted['device']} was left out: {error.message}")
            continue
        if found is None:
            notes.append(f"{wanted['device']} has no runtime for {wanted['format']} whose times mean anything.")
            continue
        tables.append(found.table)
        notes += found.notes
        latency = TableLatency(found.table, largest_cut, found.table.step([grid for grid in grids if grid]))
        figures.append(
            {
                "place": found.table.place.title,
                "predicted_ms": total(latency.parts(graph), graph.all_kept()),
                "channel_step": latency.step,
                "timed": found.timed,
            }
        )
    written = {"largest_cut": largest_cut, "tables": [table.to_json() for table in tables]}
    (out / COSTS).write_text(json.dumps(written, indent=1, sort_keys=True), encoding="utf-8")
    return {"places": figures, "notes": notes}


def _table(wanted: Mapping[str, Any], grids: Sequence[Grid | None], progress: Progress) -> Found | None:
    with open_device(str(wanted["device"])) as device:
        place = place_of(device, wanted["format"], wanted["precision"], wanted["threads"])
        return table_of(place, grids, device, _SECONDS, progress) if place else None


def _part_of(progress: Progress, index: int, count: int) -> Progress:
    return lambda done, what: progress((index + done) / count, what)


def cost_named(name: str, graph: ChannelGraph, costs: Sequence[Path]) -> tuple[Cost, str]:
    """Return the cost that a recipe names, and a note where it had to be another.

    ``costs``: the step's file; none, or one without tables, leaves MACs in place of milliseconds.
    """
    if name != "latency":
        return COUNTED[name](), ""
    written = json.loads(costs[0].read_text(encoding="utf-8")) if costs else {"tables": []}
    if not written["tables"]:
        return Macs(), "No runtime of the targets could be timed: the channels were chosen by multiply-accumulates."
    cut = float(written["largest_cut"])
    grids = [grid for op in ops_of(graph) if (grid := grid_of(op, cut)) is not None]
    tables = [Table.from_json(entry) for entry in written["tables"]]
    return MeanLatency(tuple(TableLatency(table, cut, table.step(grids)) for table in tables)), ""


def predictions(cost: Cost, graph: ChannelGraph, kept: BoolArray) -> list[dict[str, Any]]:
    """Return for each place the milliseconds predicted before and after; nothing for a cost that is no time."""
    if not isinstance(cost, MeanLatency):
        return []
    found = []
    for place in cost.places:
        parts = place.parts(graph)
        found.append(
            {
                "place": place.table.place.title,
                "before_ms": total(parts, graph.all_kept()),
                "after_ms": total(parts, kept),
            }
        )
    return found
