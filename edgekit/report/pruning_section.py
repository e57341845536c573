"""What pruning did: the curve it was chosen on, everything that was tried, and the layers it left alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from edgekit.report import figures
from edgekit.report.charts.curve import CONTROL, UNPRUNED, curve, short_name
from edgekit.report.markup import Child, Markup, facts, tag
from edgekit.report.pruned import CurvePoint, Gap, PruneSummary, Tried
from edgekit.report.schema import Report
from edgekit.report.table import missing, table
from edgekit.report.thinned_section import low_rank_layers, thinned_facts


def pruning(report: Report) -> Markup | None:
    """Return the section, or nothing where nothing was pruned."""
    prune = report.prune
    if prune is None:
        return None
    picture = curve(prune)
    known = [
        tag("div", facts(pruning_facts(prune)), class_="panel"),
        tag("div", low_rank_layers(prune.low_rank), class_="panel") if prune.low_rank else None,
        tag("div", _frozen(prune.frozen), class_="panel") if prune.frozen else None,
    ]
    beside = tag("div", tag("div", picture, class_="panel"), tag("div", *known, class_="column"), class_="pair")
    return tag(
        "section",
        tag("h2", "Pruning", id="title-pruning"),
        tag("p", pruning_sentence(prune), class_="lead") if prune.curve else None,
        tag("div", _networks(prune), class_="panel") if prune.curve else None,
        *([beside] if picture else known),
        id="pruning",
        aria_labelledby="title-pruning",
    )


def pruning_sentence(prune: PruneSummary) -> str:
    """Say what pruning gained and lost, against the control where there is one: float networks, on this host."""
    points = {point.name: point for point in prune.curve}
    chosen, unpruned = points.get(prune.chosen), points.get(UNPRUNED)
    if chosen is None or unpruned is None:
        return ""
    faster = _ratio(unpruned, chosen)
    speed = "was not timed" if faster is None else f"runs {figures.factor(faster)} as fast as the unpruned one"
    if faster is not None and faster < 1.02:
        speed = "is not faster than the unpruned one: pruning bought nothing here"
    lost = chosen.accuracy.drop_points
    against = f", {_signed(lost)} points against the model as it came" if lost is not None else ""
    gap = chosen.against_control
    fair = f" and {_gap(gap)} against the unpruned model trained as long" if gap else ""
    told = f"The pruned float network {speed} on this host{against}{fair}."
    return f"{told}{_spread(prune, points)}{_still_learning(points.get(gap.control) if gap else None)}"


def _still_learning(control: CurvePoint | None) -> str:
    """Say that the unpruned model gains by training alone; nothing where that is not certain."""
    known = control.accuracy if control else None
    if known is None or known.drop_points is None or known.drop_high_points is None or known.drop_high_points >= 0:
        return ""
    gain = f"{_signed(known.drop_points)} points {figures.interval(known)}"
    return f" The unpruned model still learns: training alone brings it {gain}."


def _spread(prune: PruneSummary, points: dict[str, CurvePoint]) -> str:
    keep = prune.chosen.partition("-seed-")[0]
    same = [point for name, point in points.items() if name.partition("-seed-")[0] == keep]
    if len(same) < 2:
        return ""
    scores = [100 * point.accuracy.value for point in same]
    text = f" Over {len(same)} seeds it scores {fmean(scores):.2f}, from {min(scores):.2f} to {max(scores):.2f}"
    gaps = [point.against_control for point in same if point.against_control]
    if len(gaps) == len(same):
        controls = len({gap.control for gap in gaps})
        fewer = "one control" if controls == 1 else f"{controls} controls"
        against = "controls of the same seeds" if controls == len(same) else fewer
        text += f": {_signed(fmean(gap.points for gap in gaps))} points on average against {against}"
    return f"{text}."


def _networks(prune: PruneSummary) -> Markup:
    tried = {item.name: item for item in prune.tried}
    unpruned = next((point for point in prune.curve if point.name == UNPRUNED), None)
    rows = [_row(point, tried.get(point.name), unpruned) for point in prune.curve]
    metric = prune.curve[0].accuracy.metric
    return table(
        "Float networks, scored on the test samples, timed in turns",
        ["Network", metric, "Against unpruned", "Against control", "Speed", "MACs", "Training"],
        rows,
        numbers=(1, 2, 3, 4, 5, 6),
        marked=[point.name == prune.chosen for point in prune.curve],
    )


def _row(point: CurvePoint, tried: Tried | None, unpruned: CurvePoint | None) -> list[Child]:
    drop = point.accuracy.drop_points
    faster = _ratio(unpruned, point) if unpruned else None
    return [
        short_name(point.name),
        f"{100 * point.accuracy.value:.2f}",
        missing("itself") if drop is None else f"{_signed(drop)} {figures.interval(point.accuracy)}",
        _gap(point.against_control) if point.against_control else missing(_no_gap(point)),
        missing(point.latency_note or "not timed") if faster is None else figures.factor(faster),
        figures.count(tried.macs) if tried and tried.macs else missing("all"),
        f"{tried.seconds / 60:.1f} min, {tried.epochs} epochs" if tried else missing("none"),
    ]


def _no_gap(point: CurvePoint) -> str:
    return "itself" if point.name.startswith(CONTROL) else "no control"


def _ratio(unpruned: CurvePoint, point: CurvePoint) -> float | None:
    if unpruned.latency is None or point.latency is None:
        return None
    return unpruned.latency.min_ms / point.latency.min_ms


def _gap(gap: Gap) -> str:
    return f"{_signed(gap.points)} points [{_signed(gap.high_points)}, {_signed(gap.low_points)}]"


def _signed(drop: float) -> str:
    return figures.points(-drop)


def pruning_facts(prune: PruneSummary) -> list[tuple[str, str]]:
    """Return what was cut, by what, and what it was taught with, each under a title."""
    controls = sum(one.name.startswith(CONTROL) for one in prune.tried)
    minutes = f", {_minutes(prune, prune.minutes, len(prune.tried) - controls)}" if prune.minutes else ""
    rows = [
        ("Multiply-accumulates", _before_after(prune.macs_before, prune.macs_after)),
        ("Parameters", _before_after(prune.parameters_before, prune.parameters_after)),
        *([("Channels chosen by", _chosen_by(prune))] if prune.cost else []),
        ("Recovery", f"{prune.recovery}{epochs(prune)}{minutes}"),
    ]
    if prune.exactness_error is not None:
        exact = f"{prune.exactness_error:.1e} relative, pruned against zeroed original before recovery"
        rows.append(("Exactness", exact))
    rows += [("Repair before training", _repair(one)) for one in prune.tried if one.name == prune.chosen and one.refit]
    rows += thinned_facts(prune)
    if prune.judged_by:
        lost = next((one.drop_points for one in prune.tried if one.name == prune.chosen), None)
        text = "" if lost is None else f": {_signed(lost)} points"
        rows.append(("Amounts judged by", f"{prune.judged_by}, on samples nothing learned from{text}"))
    if prune.control_minutes is not None:
        minutes = _minutes(prune, prune.control_minutes, controls)
        rows.append(("Control", f"the unpruned model, trained as long: {minutes}"))
    if prune.checkpoint:
        rows.append(("Taken from", f"{prune.checkpoint}, made by an earlier edgekit prune; nothing was trained now"))
    return rows


def _minutes(prune: PruneSummary, minutes: float, networks: int) -> str:
    each = f"{minutes:.1f} min" + (f" for {networks} networks" if networks > 1 else "")
    return each + (f", {prune.at_once} trainings at a time" if prune.at_once > 1 else "")


def _repair(chosen: Tried) -> str:
    """Say what was kept of the closed-form repair, by the outputs on samples it did not look at."""
    kept = "none: nothing came closer to the original" if chosen.refit == "unchanged" else chosen.refit
    return kept + (f"; not solved: {', '.join(chosen.unsolved)}" if chosen.unsolved else "")


def epochs(prune: PruneSummary) -> str:
    """Return how long was trained, as the end of a sentence; nothing where nothing was trained."""
    return f", {prune.recovery_epochs} epochs" if prune.recovery_epochs else ""


def _chosen_by(prune: PruneSummary) -> str:
    """Return what a channel had to save, and where it is time, the speed-up that op times promised."""
    promised = [f"{one.before_ms / one.after_ms:.2f}x in {one.place}" for one in prune.predicted if one.after_ms]
    return prune.cost + (f", predicted from times of single ops: {'; '.join(promised)}" if promised else "")


def _before_after(before: int, after: int) -> str:
    share = f", {(1 - after / before) * 100:.0f} % less" if before else ""
    return f"{figures.count(before)} → {figures.count(after)}{share}"


def _frozen(layers: Sequence[str]) -> Markup:
    summary = f"{len(layers)} layer{'s' if len(layers) > 1 else ''} left alone, with the reason"
    return tag("details", tag("summary", summary), tag("ul", *(tag("li", x) for x in layers), class_="plain"))
