"""Markdown and HTML: every verdict is there, hostile text stays text, nothing is fetched."""

from __future__ import annotations

import base64
import gzip
import html as std_html
import random
import re
from collections.abc import Iterator
from importlib import import_module
from xml.etree import ElementTree

import pytest
from parsed_page import Page
from report_example import answers_differ, boxes_differ, diagnosis, example, latency, variant, with_speedups

from edgekit.profile.verdict import Budget, judge
from edgekit.report import FORMATS, diagnosis_page, figures, html, markdown, raw_data
from edgekit.report.charts.layers import layers
from edgekit.report.schema import PlannedOp, Report, SparseFile, TargetReport

HOSTILE = "<script>alert('x')</script> \"&amp;\" | `a` $style"
SVG = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


def hostile() -> Report:
    """Put the hostile text into every free text field that a page shows."""
    report = example(HOSTILE)
    targets = []
    for target in report.targets:
        rows = [
            row.model_copy(
                update={
                    "name": HOSTILE + row.name,
                    "cause": HOSTILE,
                    "latency_note": HOSTILE,
                    "warnings": [HOSTILE],
                    "sparse": SparseFile(weights=0, dense_bytes=1, note=HOSTILE),
                    "diagnosis": row.diagnosis and diagnosis(HOSTILE),
                    "layers": row.layers and diagnosis(HOSTILE).layers,
                    "planned": [PlannedOp(name=HOSTILE, kind=HOSTILE, precision="int8", reason=HOSTILE)],
                    "disagreements": row.disagreements
                    and (answers_differ(HOSTILE) if row.disagreements.lost == 1 else boxes_differ(HOSTILE)),
                }
            )
            for row in target.variants
        ]
        named = {
            "title": HOSTILE,
            "sentence": HOSTILE,
            "target": HOSTILE,
            "bundle": HOSTILE,
            "variants": rows,
        }
        gains = [
            gain.model_copy(update={"step": HOSTILE, "before": HOSTILE + gain.before, "after": HOSTILE + gain.after})
            for gain in target.steps
        ]
        ends = {"baseline": HOSTILE + target.baseline, "shipped": HOSTILE + target.shipped, "steps": gains}
        targets.append(target.model_copy(update={**named, **ends}))
    failure = report.failures[0].model_copy(update={"message": HOSTILE, "step": HOSTILE, "hint": HOSTILE})
    assert report.prune is not None
    assert report.prune.low_rank is not None
    hostile_layers = [
        layer.model_copy(update={"layer": HOSTILE, "why": HOSTILE}) for layer in report.prune.low_rank.layers
    ]
    pairs = report.prune.low_rank.model_copy(update={"layers": hostile_layers})
    return report.model_copy(
        update={
            "targets": targets,
            "failures": [failure],
            "warnings": [HOSTILE],
            "prune": report.prune.model_copy(update={"frozen": [HOSTILE], "low_rank": pairs}),
            "source": report.source.model_copy(update={"path": HOSTILE, "task": HOSTILE}),
            "environment": report.environment.model_copy(update={"cpu": HOSTILE, "libraries": {HOSTILE: HOSTILE}}),
        }
    )


def unescaped(text: str) -> str:
    return std_html.unescape(re.sub(r"\\(.)", r"\1", text))


def titles(report: Report) -> Iterator[TargetReport]:
    yield from report.targets


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_a_module_with_render(name: str) -> None:
    text = import_module(FORMATS[name]).render(example())
    assert text.endswith("\n")
    assert "Digits detector" in text


def test_markdown_says_every_verdict_and_its_numbers() -> None:
    text = unescaped(markdown.render(example()))
    for target in titles(example()):
        assert target.sentence in text
        for row in target.variants:
            assert row.name in text
            assert row.cause in text
    assert "TensorRT needs the board" in text
    assert "It is not the board's latency." in text
    assert text.count("<details>") == text.count("</details>") == 5


def test_markdown_tables_have_as_many_cells_as_their_head() -> None:
    for report in (example(), hostile()):
        width = 0
        for line in markdown.render(report).splitlines():
            cells = len(re.findall(r"(?<!\\)\|", line))
            if not line.startswith("|"):
                width = 0
                continue
            width = width or cells
            assert cells == width, line


def test_markdown_escapes_hostile_names() -> None:
    text = markdown.render(hostile())
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_html_says_every_verdict() -> None:
    text = Page(html.render(example())).text
    for target in titles(example()):
        assert figures.plain_sentence(target) in text
        assert text.count(target.title) >= 3
        for row in target.variants:
            assert row.name in text
            assert row.cause in text
    assert "on this host: Example CPU @ 2.10GHz, 2 cores, LiteRT 2.3.0, 1 thread" in text
    assert "not measured: TensorRT needs the board, and no device was given" in text
    assert "unstable: calls differ" in text
    assert "head_boxes: feeds an output" in text
    assert "Run edgekit diagnose on the float artifact." in text
    assert "nan" not in text.lower().split()
    assert "None" not in text


def test_html_fetches_nothing() -> None:
    text = html.render(example())
    assert not re.search(r"url\(|@import|javascript:|<link|<img|<iframe", text)
    for _, attributes in Page(text).elements:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:application/gzip", "data:image/"))
    assert set(re.findall(r"https?://[^\"' <]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_loss_is_explained_in_every_format() -> None:
    page = Page(html.render(example())).text
    for part in (
        "1. uneven channels", "Its channels reach from 0.018 to 41.8", "Equalize its channels", "and 1 more",
        "on 32 test samples; 165 single changes", "Time was up", "not a finite number", "0339.jpg", "digit 3", "0.433",
        "nothing to agree with", "Right in float, lost here",
    ):  # fmt: skip
        assert part in page, part
    text = unescaped(markdown.render(example()))
    assert "int8, why: uneven channels at stem_hard_swish (44" in text
    assert "Equalize its channels" in text


def test_a_diagnosis_has_a_page_of_its_own() -> None:
    text = diagnosis_page.render(diagnosis(), "out/model.tflite", "out/float.tflite")
    page = Page(text).text
    assert "out/model.tflite (tflite) against out/float.tflite" in page
    assert "1. uneven channels" in page
    assert diagnosis_page.render(diagnosis(HOSTILE), HOSTILE, HOSTILE).count("<script") == 1  # the page's own
    nothing = diagnosis().model_copy(update={"findings": [], "layers": [], "outputs": [], "classes": []})
    empty = Page(diagnosis_page.render(nothing, "model.tflite", "float.tflite")).text
    assert "Nothing to blame" in empty
    assert "No layer was tried" in empty


def test_the_chart_names_the_worst_layer_and_keeps_the_order() -> None:
    picture = ElementTree.fromstring(layers("int8", diagnosis().layers))
    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert "stem_hard_swish" in texts
    assert "block1_relu" not in texts  # too small to name
    bars = [element for element in picture.iter() if "layer" in element.attrib.get("class", "").split()]
    rects = [element for element in bars if element.tag.endswith("rect")]
    dots = [element for element in bars if element.tag.endswith("circle")]
    assert len(rects) == 20  # output and weights of ten layers
    assert len(dots) == 11  # the input has no noise
    places = [float(element.attrib["x"]) for element in rects]
    assert places == sorted(places)
    tallest = max(rects, key=lambda element: float(element.attrib["height"]))
    assert tallest is rects[4]


def test_html_escapes_hostile_text_everywhere() -> None:
    text = html.render(hostile())
    assert text.count("<script") == 1  # the page's own
    assert "alert('x')" not in text
    page = Page(text)
    assert HOSTILE.split(" ", 1)[0] in page.text
    assert sum(tag == "script" for tag, _ in page.elements) == 1


@pytest.mark.parametrize("report", [example(), hostile()], ids=["example", "hostile"])
def test_every_picture_is_well_formed_and_has_a_title(report: Report) -> None:
    pictures = SVG.findall(html.render(report))
    assert len(pictures) >= 10
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root[0].tag.endswith("title")
        assert root[0].text
        for element in root.iter():
            for key, value in element.attrib.items():
                assert "nan" not in value.lower() or key == "aria-label"
                if key in ("width", "height"):
                    assert float(value) >= 0


def test_html_stays_small_with_long_measurements() -> None:
    report = example()
    big = []
    for target in report.targets:
        rows = [
            row.model_copy(
                update={"latency": row.latency.model_copy(update={"samples_ns": list(range(10**6, 10**6 + 20000))})}
            )
            if row.latency
            else row
            for row in target.variants
        ]
        big.append(target.model_copy(update={"variants": rows}))
    text = html.render(report.model_copy(update={"targets": big * 3}))
    assert len(text.encode()) < 1_500_000


def test_html_has_landmarks_and_unique_ids() -> None:
    page = Page(html.render(example()))
    tags = [tag for tag, _ in page.elements]
    assert {"header", "main", "nav", "footer"} <= set(tags)
    assert tags.count("h1") == tags.count("main") == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(a["href"] or "")[1:] for tag, a in page.elements if tag == "a" and "download" not in a]
    assert set(links) <= set(ids)
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes["scope"] in ("col", "row")


def test_emulated_time_is_never_printed() -> None:
    rows = with_speedups(
        [
            variant("float32", 0.612, 4_000_000, latency(777.0, "litert", {}, flags=["emulated"]), "tflite"),
            variant("int8", 0.611, 1_000_000, latency(333.0, "litert", {}, flags=["emulated"]), "tflite"),
        ]
    )
    target = judge("pi", "Pi", "raspberry-pi", rows, Budget(), timed=False)
    report = example().model_copy(update={"targets": [target]})
    for text in (html.render(report), markdown.render(report)):
        assert not re.search(r"(7\d\d|3[2-5]\d)(\.\d+)?[\s\u00a0]ms", text)
        assert "not measured: the processor was emulated" in text


@pytest.mark.parametrize("outcome", ["unscored", "failed"])
def test_targets_without_a_winner_still_have_a_page(outcome: str) -> None:
    rows = with_speedups(
        [
            variant(
                "float32",
                None if outcome == "failed" else 0.6,
                4_000_000,
                latency(9.0, "litert", {}),
                "tflite",
            ),
            variant("int8", None, 0, None, "tflite", cause="conversion failed"),
        ]
    )
    target = judge("pi", "Pi", "raspberry-pi", rows, Budget(), timed=True)
    assert target.outcome == outcome
    report = example().model_copy(update={"targets": [target], "prune": None, "failures": []})
    text = Page(html.render(report)).text
    assert figures.plain_sentence(target) in text
    assert "conversion failed" in text
    assert "Failed, exit code" in text
    assert "conversion failed" in unescaped(markdown.render(report))


def test_a_report_without_targets_is_no_success() -> None:
    report = example().model_copy(update={"targets": [], "failures": []})
    assert "Failed" in html.render(report)
    assert markdown.render(report)


def test_what_is_embedded_stays_below_a_limit_and_says_what_it_left_out() -> None:
    generator = random.Random(0)
    report = example()
    target = report.targets[0]
    rows = [
        row.model_copy(
            update={
                "latency": row.latency.model_copy(
                    update={"samples_ns": [generator.getrandbits(30) for _ in range(60_000)]}
                )
            }
        )
        for row in target.variants
        if row.latency
    ]
    long = report.model_copy(update={"targets": [target.model_copy(update={"variants": rows})]})
    made = raw_data.raw_data(long)
    assert "Without single calls" in made
    packed = re.findall(r"base64,([^\"]+)\"", made)[0]
    inside = Report.model_validate_json(gzip.decompress(base64.b64decode(packed)))
    assert [row.latency and row.latency.samples_ns for row in inside.targets[0].variants] == [[]] * 4
    assert inside.targets[0].variants[0].accuracy == rows[0].accuracy
