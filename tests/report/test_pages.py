"""Markdown and HTML: every verdict is there, hostile text stays text, nothing is fetched."""

from __future__ import annotations

import base64
import gzip
import html as std_html
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError
from report_example import answers_differ, boxes_differ, diagnosis, example, latency, variant, with_speedups

from edgekit.profile.verdict import Budget, judge
from edgekit.report import FORMATS, diagnosis_page, figures, html, markdown, raw_data
from edgekit.report.charts.layers import layers
from edgekit.report.layers_section import layers_section
from edgekit.report.precision_section import blocks, precision_map, summary
from edgekit.report.samples_section import samples_section
from edgekit.report.schema import PlannedOp, Report, SparseFile, TargetReport

HOSTILE = "<script>alert('x')</script> \"&amp;\" | `a` $style"
SVG = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Collect the text and the elements, and check that every element is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


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


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999 bytes"), (602_000, "602 kB"), (4_936_000, "4.94 MB"), (49_360_000, "49.4 MB")],
)
def test_sizes_are_decimal(value: int, text: str) -> None:
    assert figures.size(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (5e-5, "< 0.01 %"), (0.0031, "0.31 %"), (0.052, "5.2 %"), (0.47, "47 %"), (None, "unknown")],
)
def test_percent(value: float | None, text: str) -> None:
    assert figures.percent(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012 ms"), (2.906, "2.91 ms"), (18.27, "18.3 ms"), (250.4, "250 ms")]
)
def test_milliseconds(value: float, text: str) -> None:
    assert figures.milliseconds(value).replace("\u00a0", " ") == text


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(scheme: int) -> None:
    style = html.render(example()).partition("<style>")[2]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", style.split(":root {")[scheme + 1].partition("}")[0]))
    text = [(name, ground) for name in ("ink", "soft", "ship", "drop") for ground in ("ground", "surface")]
    text += [("soft", "grid")] + [(name, f"{name}-ground") for name in ("good", "warn", "bad")]
    graphics = [(name, "surface") for name in ("base", "kept", "ship", "drop")]
    for pairs, least in ((text, 4.5), (graphics, 3.0)):  # WCAG 2.2, 1.4.3 and 1.4.11
        for front, back in pairs:
            light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= least, (front, back)


def planned(count: int, exceptions: int = 2) -> list[PlannedOp]:
    """``count`` ops in blocks of seven; the last ones are float."""
    return [
        PlannedOp(
            name=f"block{index // 7}_conv{index}", kind="CONV_2D", macs=1000 * (index % 7),
            precision="float32" if index >= count - exceptions else "int8",
            reason="output decoding" if index >= count - exceptions else "",
        )
        for index in range(count)
    ]  # fmt: skip


def with_planned(ops: list[PlannedOp]) -> TargetReport:
    target = example().targets[0]
    rows = [row.model_copy(update={"planned": ops if row.name == "pruned-int8" else []}) for row in target.variants]
    return target.model_copy(update={"variants": rows})


@pytest.mark.parametrize("count", [1, 10, 1000, 5000])
def test_the_precision_map_holds_every_op_of_small_and_large_networks(count: int) -> None:
    made = precision_map(with_planned(planned(count, exceptions=min(2, count - 1))))
    assert made is not None
    cells = [a for tag, a in Page(made).elements if tag == "i" and "title" in a]
    assert len(made) < 200_000
    if count <= 600:
        assert len(cells) == count
    else:  # neighbours that are alike share a cell, and it says how many they are
        single = sum(" ops, " not in (a["title"] or "") for a in cells)
        together = [int((a["title"] or "").split()[0]) for a in cells if " ops, " in (a["title"] or "")]
        assert single + sum(together) == count
    if count > 2:
        assert "output decoding" in Page(made).text
        assert sum(a["class"] == "p-float32" for a in cells) >= 1


def test_the_precision_map_counts_work_and_never_rounds_to_all_of_it() -> None:
    ops = [PlannedOp(name="a_1", kind="Conv", precision="int8", macs=10**9)]
    ops.append(PlannedOp(name="b_1", kind="Conv", precision="float32", macs=1))
    assert summary(ops).replace("\u00a0", " ") == (
        "1 of 2 ops int8 with 99.99 % of the multiply-accumulates; "
        "1 of 2 ops float32 with 0.01 % of the multiply-accumulates."
    )


def test_blocks_follow_the_names_of_layers() -> None:
    names = ["Transpose_0", "stem_1", "stem_relu_1", "low_a_1", "low_b_1", "low_c_1", "Resize_9", "neck_a", "neck_b"]
    ops = [PlannedOp(name=name, kind="Conv", precision="int8") for name in names]
    assert [(name, len(members)) for name, members in blocks(ops)] == [("stem", 3), ("low", 4), ("neck", 2)]
    torch = [
        PlannedOp(name=f"/model.{i // 4}/cv{i % 4}/Conv_output_0", kind="Conv", precision="int8") for i in range(24)
    ]
    assert len(blocks(torch)) == 6


def test_samples_say_who_finds_what() -> None:
    page = Page(html.render(example()))
    assert "differently on 7 of 500 test samples: float32 alone gets 5 labels right, pruned-int8 alone 2" in page.text
    labels = [a.get("aria-label") for tag, a in page.elements if tag == "svg"]
    assert "0068.jpg, float32: 7 0.91, 1 0.62 (alone)" in labels
    assert "0068.jpg, pruned-int8: 7 0.91" in labels
    assert "test.npz[7] (51 %)" in page.text
    pictures = [a["href"] for tag, a in page.elements if tag == "image"]
    assert len(pictures) == 3  # each is embedded once, and used again


def test_the_noise_of_layers_is_drawn_where_nobody_had_to_diagnose() -> None:
    target = example().targets[0]
    made = layers_section(target)
    assert made is not None
    page = Page(made)
    assert "What int8 does to each layer of pruned-int8" in page.text
    assert len([tag for tag, _ in page.elements if tag == "circle"]) == 11
    assert page.text.index("boxes CONV_2D 21.0 dB") < page.text.index("block10_relu CONV_2D 34.0 dB")
    bare = [row.model_copy(update={"layers": []}) for row in target.variants]
    assert layers_section(target.model_copy(update={"variants": bare})) is None


def test_samples_that_are_no_images_are_a_table() -> None:
    target = example().targets[0]
    rows = [row.model_copy(update={"disagreements": None}) for row in target.variants]
    rows[-1] = rows[-1].model_copy(update={"disagreements": answers_differ(picture="")})
    made = samples_section(target.model_copy(update={"variants": rows}), 0)
    assert made is not None
    assert "Pullover (49 %)" in Page(made).text
    assert "<image" not in made


def test_a_picture_can_only_be_a_picture() -> None:
    with pytest.raises(ValidationError, match="picture"):
        answers_differ(picture="javascript:alert(1)")


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
