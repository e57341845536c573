"""Where the time goes: the slowest kinds of op before and after, on one scale."""

from __future__ import annotations

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.charts.axes import WIDTH, picture, shorten
from edgekit.report.markup import Child, Markup, tag
from edgekit.report.schema import TargetReport, Variant

_TOP_KINDS = 6
_ROW, _HEAD, _GAP = 36.0, 28.0, 18.0
_VALUE = 64.0


def op_times(variant: Variant) -> list[tuple[str, float, int]]:
    """Return (kind, ms, how many ops) with the slowest first; the small rest as one last row."""
    latency = usable_latency(variant)
    sums: dict[str, tuple[float, int]] = {}
    for op in latency.ops if latency else []:
        ms, number = sums.get(op.kind or op.name, (0.0, 0))
        sums[op.kind or op.name] = (ms + op.ms, number + 1)
    rows = sorted(((kind, ms, number) for kind, (ms, number) in sums.items()), key=lambda row: -row[1])
    rest = rows[_TOP_KINDS:]
    if len(rest) < 2:
        return rows
    other = (f"{len(rest)} other kinds", sum(row[1] for row in rest), sum(row[2] for row in rest))
    return [*rows[:_TOP_KINDS], other]


def ops(target: TargetReport) -> Markup:
    """Draw the op times of the baseline, what ships and what came out slower, or say why there are none."""
    shown = _shown(target)
    drawn = [variant for variant in shown if op_times(variant)]
    if not drawn:
        notes = [v.latency.ops_note for v in shown if v.latency and v.latency.ops_note]
        reason = notes[0] if notes else "the target was not timed here"
        return tag("p", f"No per-op times: {reason}.", class_="empty")
    longest = max(ms for variant in drawn for _, ms, _ in op_times(variant)) or 1.0  # below the clock's step: all 0
    parts: list[Child] = []
    top = 0.0
    for variant in drawn:
        rows = op_times(variant)
        total = sum(ms for _, ms, _ in rows)
        head = f"{variant.name}: {figures.milliseconds(total)} in ops"
        parts.append(tag("text", head, x=0, y=top + 16, class_="axis"))
        top += _HEAD
        for kind, ms, number in rows:
            parts.append(_row(kind, ms, number, ms / longest, top, variant.status))
            top += _ROW
        top += _GAP
    described = "; ".join(f"{v.name}: " + ", ".join(f"{k} {ms:.3g} ms" for k, ms, _ in op_times(v)) for v in drawn)
    return picture(f"Time per kind of op, {target.title}", described, top - _GAP, *parts)


def _shown(target: TargetReport) -> list[Variant]:
    """Return the baseline, what ships, and the first variant that came out slower: its ops are the cause."""
    slower = (v for v in target.variants if v.status == "dropped" and v.speedup and v.speedup < 1)
    wanted = {target.baseline, target.shipped, next((v.name for v in slower), "")}
    if target.shipped in ("", target.baseline):
        wanted.update(v.name for v in target.variants[1:][-1:])
    return [variant for variant in target.variants if variant.name in wanted]


def _row(kind: str, ms: float, number: int, share: float, top: float, status: str) -> Markup:
    label = shorten(kind, 52) + (f" {figures.TIMES}{number}" if number > 1 else "")
    length = max(share * (WIDTH - _VALUE), 1.5)
    return tag(
        "g",
        tag("title", f"{kind}: {ms:.4g} ms in {number} ops"),
        tag("text", label, x=0, y=top + 11, class_="tick"),
        tag("rect", x=0, y=top + 16, width=length, height=11.0, rx=2.0, class_=f"bar {status}"),
        tag("text", figures.milliseconds(ms), x=length + 6, y=top + 26, class_="value"),
    )
