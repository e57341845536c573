"""Numbers as people read them, and colours that they can tell apart."""

from __future__ import annotations

import re

import pytest
from report_example import example

from edgekit.report import figures, html


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
