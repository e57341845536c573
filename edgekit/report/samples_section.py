"""Test samples on which the float model and the artifact disagree most, as both see them."""

from __future__ import annotations

from edgekit.report import figures
from edgekit.report.markup import Child, Markup, tag
from edgekit.report.sampled import Disagreement, Disagreements, SeenBox
from edgekit.report.schema import TargetReport
from edgekit.report.table import table

_LETTER = 0.06  # of a picture's longer side


def samples_section(target: TargetReport, index: int) -> Markup | None:
    """Return the samples of one target, or nothing where none were looked at; ``index`` keeps ids apart."""
    variant = next((variant for variant in target.variants if variant.disagreements), None)
    if variant is None or variant.disagreements is None:
        return None
    found, before, after = variant.disagreements, target.baseline, variant.name
    body: list[Child] = [tag("p", sentence(found, before, after), class_="soft small")]
    answered = [item for item in found.shown if item.answer_before]
    pictured = [item for item in found.shown if item.picture]
    if pictured and not answered:
        shown = [_pair(item, f"sample-{index}-{number}", before, after) for number, item in enumerate(pictured)]
        body += [tag("div", *shown, class_="samples"), _key()]
    elif pictured:
        body.append(tag("div", *(_answered(item, before, after) for item in pictured), class_="samples answers"))
    elif answered:
        rows = [[item.sample, item.truth, item.answer_before, item.answer_after] for item in answered]
        body.append(table("Changed answers, the surest first", ["Sample", "Label", before, after], rows))
    return tag("div", tag("h3", f"Where {before} and {after} disagree most"), *body, class_="panel")


def sentence(found: Disagreements, before: str, after: str) -> str:
    """Return in words how often the two differ, and who is right then."""
    if not (found.differing or found.lost or found.won):
        alike = f"They answer alike on all {found.samples} test samples"
        return f"{alike}; these differ most, in scores and corners." if found.shown else f"{alike}."
    right = f"{before} alone gets {_labels(found.lost)} right, {after} alone {_labels(found.won)}"
    return f"They answer differently on {found.differing} of {found.samples} test samples: {right}."


def _labels(count: int) -> str:
    return f"{count} label{'' if count == 1 else 's'}"


def _answered(item: Disagreement, before: str, after: str) -> Markup:
    rows = (("label", item.truth), (before, item.answer_before), (after, item.answer_after))
    words = [Markup(tag("dt", name) + tag("dd", value)) for name, value in rows]
    title = f"{item.sample}, labelled {item.truth}"
    return tag(
        "figure",
        _svg(item, title, tag("image", href=item.picture, width=item.width, height=item.height)),
        tag("figcaption", tag("span", item.sample, class_="soft"), tag("dl", *words)),
    )


def _pair(item: Disagreement, name: str, before: str, after: str) -> Markup:
    image = tag("image", id=name, href=item.picture, width=item.width, height=item.height)
    again = tag("use", href=f"#{name}")
    sides = [
        tag("div", _svg(item, _described(item, who, seen), picture, *_boxes(item, seen)), tag("span", who))
        for who, seen, picture in ((before, item.before, image), (after, item.after, again))
    ]
    return tag("figure", tag("div", *sides, class_="sides"), tag("figcaption", item.sample, class_="soft"))


def _described(item: Disagreement, who: str, seen: list[SeenBox]) -> str:
    words = ", ".join(f"{box.label} {box.score:.2f}{'' if box.shared else ' (alone)'}" for box in seen)
    return f"{item.sample}, {who}: {words or 'nothing found'}"


def _svg(item: Disagreement, title: str, *children: Child) -> Markup:
    small = max(item.width, item.height) <= 64
    return tag(
        "svg", tag("title", title), *children, viewBox=f"0 0 {item.width} {item.height}", role="img",
        aria_label=title, class_="sample pixels" if small else "sample", xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def _boxes(item: Disagreement, seen: list[SeenBox]) -> list[Markup]:
    letter = _LETTER * max(item.width, item.height)
    drawn = []
    for box in reversed(seen):  # the surest on top
        kind = "both" if box.shared else "alone"
        frame = {"x": box.x1, "y": box.y1, "width": max(box.x2 - box.x1, 0.0), "height": max(box.y2 - box.y1, 0.0)}
        top = box.y1 - letter * 0.3 if box.y1 > letter * 1.2 else box.y1 + letter
        words = f"{box.label} {box.score:.2f}"
        start = max(min(box.x1, item.width - 0.6 * letter * len(words)), 0.0)
        drawn.append(
            tag(
                "g",
                tag("title", words),
                tag("rect", class_="halo", **frame),
                tag("rect", class_="seen", **frame),
                tag("text", words, x=start, y=top, font_size=letter, stroke_width=letter * 0.22),
                class_=kind,
            )
        )
    return drawn


def _key() -> Markup:
    words = (("both", "both find it"), ("alone", "only this one finds it"))
    items = [tag("span", tag("i", aria_hidden="true"), text, class_=kind) for kind, text in words]
    return tag("div", *items, tag("span", f"class and score{figures.SPACE}beside each box"), class_="key samples-key")
