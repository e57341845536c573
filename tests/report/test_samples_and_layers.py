"""Samples on which the file answers otherwise, and the noise of layers, on the page."""

from __future__ import annotations

import pytest
from parsed_page import Page
from pydantic import ValidationError
from report_example import answers_differ, example

from edgekit.report import html
from edgekit.report.layers_section import layers_section
from edgekit.report.samples_section import samples_section


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
