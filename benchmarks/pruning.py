"""Print the pruning of a finished build as a table: python -m benchmarks.pruning BUILD_FOLDER

Float networks come from the build's curve, quantized files from its targets; the mean over seeds stands last.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

from edgekit.report.pruned import CurvePoint, PruneSummary
from edgekit.report.schema import Report


def main(folder: Path) -> None:
    """Read ``report.json`` and print Markdown."""
    report = Report.model_validate_json((folder / "report.json").read_text())
    if report.prune is None or not report.prune.curve:
        sys.exit(f"{folder} has no curve of pruning.")
    print(_networks(report.prune))
    print()
    print(_files(report))


def _networks(prune: PruneSummary) -> str:
    tried = {item.name: item for item in prune.tried}
    unpruned = next(point for point in prune.curve if point.name == "unpruned")
    rows = ["| float network | metric | drop, points (95 %) | against control (95 %) | speed, min | training, min |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for point in prune.curve:
        minutes = f"{tried[point.name].seconds / 60:.1f}" if point.name in tried else ""
        rows.append(f"| {point.name} | {100 * point.accuracy.value:.2f} | {_drop(point)} | {_gap(point)} "
                    f"| {_speed(unpruned, point)} | {minutes} |")  # fmt: skip
    same = prune.chosen.partition("-seed-")[0]
    seeds = [point for point in prune.curve if point.name.startswith(f"{same}-seed-") and point.against_control]
    if len(seeds) > 1:
        drop = mean(point.accuracy.drop_points or 0.0 for point in seeds)
        gap = mean(point.against_control.points for point in seeds if point.against_control)
        value = mean(100 * point.accuracy.value for point in seeds)
        rows.append(f"| mean of {len(seeds)} seeds of {same} | {value:.2f} | {drop:+.2f} | {gap:+.2f} | | |")
    return "\n".join(rows)


def _files(report: Report) -> str:
    rows = ["| target | file | metric | drop, points (95 %) | speed, min | size |", "|---|---|---|---|---|---|"]
    for target in report.targets:
        for row in target.variants:
            if row.accuracy is None:
                continue
            accuracy = row.accuracy
            drop = "" if accuracy.drop_points is None else f"{accuracy.drop_points:+.2f}"
            if accuracy.drop_low_points is not None and accuracy.drop_high_points is not None:
                drop += f" [{accuracy.drop_low_points:+.2f}, {accuracy.drop_high_points:+.2f}]"
            speed = "" if row.speedup is None else f"{row.speedup:.2f}x"
            rows.append(f"| {target.target} | {row.name} ({row.format}) | {100 * accuracy.value:.2f} | {drop} "
                        f"| {speed} | {row.size_bytes / 1e3:.0f} kB |")  # fmt: skip
    return "\n".join(rows)


def _drop(point: CurvePoint) -> str:
    accuracy = point.accuracy
    if accuracy.drop_points is None:
        return ""
    return f"{accuracy.drop_points:+.2f} [{accuracy.drop_low_points:+.2f}, {accuracy.drop_high_points:+.2f}]"


def _gap(point: CurvePoint) -> str:
    gap = point.against_control
    return f"{gap.points:+.2f} [{gap.low_points:+.2f}, {gap.high_points:+.2f}]" if gap else ""


def _speed(unpruned: CurvePoint, point: CurvePoint) -> str:
    if unpruned.latency is None or point.latency is None:
        return ""
    return f"{unpruned.latency.min_ms / point.latency.min_ms:.2f}x"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
