"""The first screen: one card per target, with the verdict and the three numbers that matter."""

from __future__ import annotations

from edgekit.report import figures
from edgekit.report.markup import Markup, tag
from edgekit.report.schema import TargetReport
from edgekit.report.table import badge
from edgekit.report.three_numbers import Number, three_numbers


def card(target: TargetReport, index: int) -> Markup:
    """Return the verdict with the three numbers that matter and the baseline beside each."""
    numbers = [_drawn(number) for number in three_numbers(target)]
    return tag(
        "article",
        tag(
            "div",
            tag("h2", tag("a", target.title, href=f"#target-{index}")),
            badge(figures.OUTCOME_WORDS[target.outcome], target.outcome),
            class_="card-head",
        ),
        tag("p", figures.plain_sentence(target), class_="verdict"),
        tag("dl", *numbers, class_="numbers") if numbers else None,
        class_="card",
    )


def _drawn(number: Number) -> Markup:
    value = tag("dd", number.value, class_="big" if number.known else "words")
    return tag("div", tag("dt", number.name), value, tag("dd", number.note))
