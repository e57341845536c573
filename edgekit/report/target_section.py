"""One target on the page: the tables and pictures behind its verdict."""

from __future__ import annotations

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.charts.distribution import distribution
from edgekit.report.charts.ops import ops
from edgekit.report.charts.pareto import pareto, undrawn
from edgekit.report.charts.steps import steps
from edgekit.report.device_section import beside, device_lines
from edgekit.report.diagnosis_section import diagnosis_section
from edgekit.report.layers_section import layers_section
from edgekit.report.markup import Markup, join, tag
from edgekit.report.per_class import per_class
from edgekit.report.precision_section import precision_map
from edgekit.report.samples_section import samples_section
from edgekit.report.schema import TargetReport, Variant
from edgekit.report.search_section import search_section
from edgekit.report.table import badge, missing, soft, table
from edgekit.report.thinned_section import size_notes


def section(target: TargetReport, index: int) -> Markup:
    """Return the tables and pictures of one target."""
    head = tag(
        "div",
        tag("h2", target.title, id=f"title-{index}"),
        badge(figures.OUTCOME_WORDS[target.outcome], target.outcome),
        class_="section-head",
    )
    verdict = tag("p", figures.plain_sentence(target), class_="lead")
    timing = tag("p", figures.timing_line(target), class_="where")
    return tag(
        "section",
        tag("div", head, verdict, timing, class_="intro"),
        tag("div", _variants(target), class_="panel"),
        tag("div", _left(target), _right(target), class_="pair"),
        samples_section(target, index),
        precision_map(target),
        layers_section(target),
        diagnosis_section(target),
        _step_table(target),
        per_class(target),
        search_section(target),
        _notes(target),
        id=f"target-{index}",
        aria_labelledby=f"title-{index}",
    )


def _left(target: TargetReport) -> Markup:
    return tag(
        "div",
        _panel("Accuracy against cost", join(pareto(target), _key(target))),
        _panel("Every timed call", distribution(target)),
        _budgets(target),
        class_="column",
    )


def _right(target: TargetReport) -> Markup:
    return tag(
        "div",
        _panel("What each step bought", steps(target)),
        _panel("Where the time goes", ops(target)),
        class_="column",
    )


def _variants(target: TargetReport) -> Markup:
    head = ["Variant", "Size", "p50 latency", "Speed-up (min)", "Accuracy", "Change in points", "Peak memory"]
    rows = [_variant_row(variant, variant.name == target.shipped) for variant in target.variants]
    ships = [variant.name == target.shipped for variant in target.variants]
    return table("Before and after", head, rows, numbers=range(1, 7), marked=ships)


def _variant_row(variant: Variant, ships: bool) -> list[Markup]:
    latency, accuracy = usable_latency(variant), variant.accuracy
    done = " then ".join(variant.steps) or "as it came"
    name = join(
        tag("span", variant.name + " "),
        badge(figures.STATUS_WORDS[variant.status], variant.status),
        join(" ", badge("ships", "shipped")) if ships and variant.status == "baseline" else None,
        soft(f"{variant.precision} {variant.format}, {done}"),
        soft(variant.cause) if variant.cause else None,
    )
    if latency is None:
        time, speed, memory = (
            missing(figures.why_untimed(variant)),
            missing("not measured"),
            missing("not measured"),
        )
    else:
        spread = f"min {figures.milliseconds(latency.min_ms)}, p90 {figures.milliseconds(latency.p90_ms)}"
        other = beside(variant)
        time = join(figures.milliseconds(latency.p50_ms), soft(spread), soft(other) if other else None)
        speed = join(figures.factor(variant.speedup)) if variant.speedup else missing("not measured")
        memory = join(figures.size(latency.peak_memory_bytes))
        if not variant.steps and not variant.speedup:
            speed = join(figures.factor(1.0))
    score, change = missing("not scored"), missing("not scored")
    if accuracy is not None:
        others = ", ".join(f"{key} {value:.3f}" for key, value in accuracy.secondary.items())
        score = join(f"{accuracy.value:.3f}", soft(others or accuracy.metric))
        change = _change(variant)
    notes = [soft(note) for note in size_notes(variant)]
    made = join(figures.size(variant.size_bytes), *notes) if variant.size_bytes else missing("not made")
    return [name, made, time, speed, score, change, memory]


def _change(variant: Variant) -> Markup:
    change = figures.change_points(variant)
    if variant.status == "baseline":
        return missing("baseline")
    if change is None or variant.accuracy is None:
        return missing("unknown")
    return join(figures.points(change), soft(figures.interval(variant.accuracy)))


def _step_table(target: TargetReport) -> Markup | None:
    if not target.steps:
        return None
    head = ["Step", "From and to", "Size", "Speed", "Points", "Worth it?"]
    rows = [
        [
            gain.step,
            f"{gain.before} → {gain.after}",
            f"{figures.factor(1 / gain.size_ratio)} smaller"
            if gain.size_ratio < 1
            else figures.factor(gain.size_ratio),
            figures.factor(gain.speedup) if gain.speedup else missing("not measured"),
            missing("unknown") if gain.accuracy_points is None else figures.points(gain.accuracy_points),
            join(badge("kept" if gain.kept else "dropped", "met" if gain.kept else "dropped"), soft(gain.cause)),
        ]
        for gain in target.steps
    ]
    return tag("div", table("Was each step worth it?", head, rows, numbers=(2, 3, 4)), class_="panel")


def _budgets(target: TargetReport) -> Markup:
    if not target.budgets:
        return _panel("Budgets", tag("p", "No budget was checked on this target.", class_="empty"))
    rows = [
        [
            figures.BUDGET_WORDS.get(budget.name, budget.name),
            f"{budget.limit:g} {budget.unit}",
            missing("not measured")
            if budget.reached is None
            else f"{budget.reached + 0.0:.3g} {budget.unit}".replace("-", figures.MINUS),
            join(
                badge("met" if budget.passed else "missed", "met" if budget.passed else "missed"),
                soft(budget.note),
            ),
        ]
        for budget in target.budgets
    ]
    body = table("Budgets", ["Budget", "Limit", "Reached", "Verdict"], rows, numbers=(1, 2))
    return tag("div", body, class_="panel")


def _notes(target: TargetReport) -> Markup | None:
    notes = [(v.name, warning) for v in target.variants for warning in v.warnings]
    for variant in target.variants:
        flags = variant.latency.flags if variant.latency else []
        notes += [(variant.name, figures.FLAG_WORDS.get(flag, flag)) for flag in flags]
    items = [tag("li", tag("strong", name), ": ", text) for name, text in notes]
    items += [tag("li", line) for line in device_lines(target)]
    if target.bundle:
        items.append(tag("li", tag("strong", "To deploy"), ": ", tag("code", target.bundle)))
    return _panel("Worth knowing", tag("ul", *items, class_="plain")) if items else None


def _key(target: TargetReport) -> Markup:
    level = next((v.accuracy.interval_level for v in target.variants if v.accuracy), 0.95)
    kinds = [
        ("baseline", "baseline"),
        ("shipped", "ships"),
        ("kept", "kept, not the best"),
        ("dropped", "dropped"),
    ]
    items = (
        tag(
            "span",
            tag("i", figures.TIMES if kind == "dropped" else "", aria_hidden="true"),
            text,
            class_=kind,
        )
        for kind, text in kinds
    )
    words = [f"vertical lines: {level * 100:g} % interval", "area: size of the file", undrawn(target)]
    return tag("div", *items, *(tag("span", text) for text in words if text), class_="key")


def _panel(title: str, body: Markup) -> Markup:
    return tag("div", tag("h3", title), body, class_="panel")
