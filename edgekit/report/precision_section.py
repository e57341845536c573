"""The network as a row of cells in the order its ops run, each in the colour of its precision.

Cells are HTML, so that the row wraps on a phone; a table says the same of every op that is an exception.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from edgekit.report import figures
from edgekit.report.markup import Markup, join, tag
from edgekit.report.per_class import compared
from edgekit.report.planned import PlannedOp
from edgekit.report.schema import TargetReport, Variant
from edgekit.report.table import table

_MOST_CELLS = 600  # beyond it, neighbours that are alike share a cell
_NAMES_SHOWN = 6
_WIDTHS = ((80, 8.0, 52.0), (240, 7.0, 30.0), (_MOST_CELLS, 5.0, 18.0))  # up to so many cells: least px, px of MACs
_COUNTERS = re.compile(r"(_\d+|:\d+)+$")  # what exporters append to a layer's name
_SEPARATORS = re.compile(r"[/_.:]+")
_DEEPEST = 6

Cell = Sequence[PlannedOp]
Block = tuple[str, list[Cell]]


def precision_map(target: TargetReport) -> Markup | None:
    """Return the map of what ships, the other plans' folded, or nothing where no plan was made."""
    planned = [variant for variant in target.variants if variant.planned]
    if not planned:
        return None
    main = compared(target)
    first = main if main in planned else planned[-1]
    others = [variant for variant in planned if variant is not first]
    folded = tag(
        "details",
        tag("summary", f"The same for {', '.join(variant.name for variant in others)}"),
        *(join(tag("h4", variant.name), _variant(variant)) for variant in others),
    )
    title = f"Precision of every op in {first.name}, in the order they run"
    return tag("div", tag("h3", title), _variant(first), folded if others else None, class_="panel precisions")


def blocks(ops: Sequence[PlannedOp]) -> list[tuple[str, list[PlannedOp]]]:
    """Return runs of neighbours that share the beginning of their names, about as many as the root of their number.

    A run of one, which is often a name that a converter invented, belongs to its neighbour.
    """
    parts = [_SEPARATORS.split(_COUNTERS.sub("", op.name).strip("/_.:")) for op in ops]

    def runs(depth: int) -> list[tuple[str, list[PlannedOp]]]:
        keys = ["_".join(part[:depth]) for part in parts]
        grouped = groupby(zip(keys, ops, strict=True), key=lambda pair: pair[0])
        return [(key, [op for _, op in pairs]) for key, pairs in grouped]

    wanted = math.sqrt(len(ops))
    found = min((runs(depth) for depth in range(1, _DEEPEST)), key=lambda made: abs(math.log(len(made) / wanted)))
    merged: list[tuple[str, list[PlannedOp]]] = []
    for name, members in found:
        if merged and len(members) == 1:
            merged[-1][1].extend(members)
        elif len(merged) == 1 and len(merged[0][1]) == 1:
            merged = [(name, [*merged[0][1], *members])]
        else:
            merged.append((name, members))
    return merged


def summary(ops: Sequence[PlannedOp]) -> str:
    """Return how many ops have each precision and their share of the work, the most frequent first."""
    total = sum(op.macs or 0 for op in ops)
    said = []
    for precision, count in Counter(op.precision for op in ops).most_common():
        work = sum(op.macs or 0 for op in ops if op.precision == precision)
        share = f" with {_share(work, total)} of the multiply-accumulates" if total else ""
        said.append(f"{count} of {len(ops)} ops {precision}{share}")
    return "; ".join(said) + "."


def _share(work: int, total: int) -> str:
    """Return a share in percent that is 0 or 100 only where it is exactly that."""
    if work in (0, total):
        return figures.percent(work / total)
    percent = min(max(100 * work / total, 0.01), 99.99)
    return f"{percent:.{2 if percent > 99 or percent < 1 else 0}f}{figures.SPACE}%"


def _variant(variant: Variant) -> Markup:
    ops = variant.planned
    cells = [(name, _cells(members, len(ops))) for name, members in blocks(ops)]
    widths = _Widths(cells)
    drawn = [_block(name, block, widths) for name, block in cells]
    label = f"{variant.name}: {summary(ops)} The arrow keys go from op to op; the table below names every exception."
    return join(
        tag("p", summary(ops), class_="soft small"),
        tag("div", *drawn, class_="map", role="img", tabindex=0, aria_label=label),
        _key(ops),
        _exceptions(variant),
    )


def _cells(members: Sequence[PlannedOp], total: int) -> list[Cell]:
    if total <= _MOST_CELLS:
        return [[op] for op in members]
    return [list(alike) for _, alike in groupby(members, key=lambda op: (op.precision, op.reason))]


class _Widths:
    """How wide each cell is: a least width, and the more multiply-accumulates the more."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        cells = [cell for _, members in blocks for cell in members]
        most = next((row for row in _WIDTHS if len(cells) <= row[0]), _WIDTHS[-1])
        self._least, self._more = most[1:]
        self._heaviest = max((_macs(cell) for cell in cells), default=0) or 1

    def of(self, cell: Cell) -> float:
        return self._least + self._more * _macs(cell) / self._heaviest


def _macs(cell: Cell) -> int:
    return sum(op.macs or 0 for op in cell)


def _block(name: str, cells: Sequence[Cell], widths: _Widths) -> Markup:
    return tag("div", tag("b", name), tag("div", *(_cell(cell, widths.of(cell)) for cell in cells)))


def _cell(cell: Cell, width: float) -> Markup:
    first, last = cell[0], cell[-1]
    what = f"{first.name}, {first.kind}" if len(cell) == 1 else f"{len(cell)} ops, {first.name} to {last.name}"
    words = f"{what}: {first.precision}" + (f", {first.reason}" if first.reason else "")
    if _macs(cell):
        words += f", {figures.count(_macs(cell))} multiply-accumulates"
    return tag("i", class_=f"p-{first.precision}", style=f"width:{width:.0f}px", title=words)


def _key(ops: Sequence[PlannedOp]) -> Markup:
    kinds = [precision for precision, _ in Counter(op.precision for op in ops).most_common()]
    items = [tag("span", tag("i", aria_hidden="true", class_=f"p-{kind}"), kind) for kind in kinds]
    if any(op.macs for op in ops):
        items.append(tag("span", "wider: more multiply-accumulates"))
    return tag("div", *items, class_="key map-key")


def _exceptions(variant: Variant) -> Markup | None:
    """Return which ops have another precision than most, by reason: what the colours say, for those who see none."""
    usual = Counter(op.precision for op in variant.planned).most_common(1)[0][0]
    found: dict[tuple[str, str], list[PlannedOp]] = {}
    for op in variant.planned:
        if op.precision != usual:
            found.setdefault((op.precision, op.reason), []).append(op)
    if not found:
        return None
    rows = [
        [reason or "not said", precision, str(len(members)), _names(members)]
        for (precision, reason), members in sorted(found.items(), key=lambda item: -len(item[1]))
    ]
    return table(
        f"Ops of {variant.name} that are not {usual}", ["Why", "Precision", "Ops", "Which"], rows, numbers=(2,)
    )


def _names(members: Sequence[PlannedOp]) -> Markup:
    shown = ", ".join(op.name for op in members[:_NAMES_SHOWN])
    rest = len(members) - _NAMES_SHOWN
    return tag("span", f"{shown} and {rest} more" if rest > 0 else shown, class_="names")
