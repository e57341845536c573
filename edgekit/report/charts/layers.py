"""Where an int8 file goes wrong, in the order layers run: what each does at the outputs, and its own noise.

The two are drawn one above the other because they differ: the layer to blame may look healthy by its own noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.diagnose.schema import Layer
from edgekit.report import figures
from edgekit.report.charts.axes import WIDTH, Box, Scale, free_height, left_axis, picture, shorten, ticks
from edgekit.report.markup import Child, Markup, join, tag

_LEFT, _RIGHT = 46.0, WIDTH - 4
_TOP, _TALL, _GAP = 34.0, 130.0, 62.0
_NAMED, _NAME_LENGTH, _CHARACTER = 3, 26, 6.6
_ROOM = 3.0  # between a bar and its name
_FULL = 1.0  # a relative error beyond it is as good as any other: the output is gone
_WORTH_A_NAME = 0.1  # of the largest bar


def layers(name: str, found: Sequence[Layer]) -> Markup:
    """Draw the layers of one diagnosis; ``name`` is the variant's or the file's."""
    tried = [layer for layer in found if _error(layer) is not None]
    if not tried:
        return tag("p", "No layer was tried at the outputs.", class_="empty")
    step = (_RIGHT - _LEFT) / len(found)
    peak = min(_FULL, max(_error(layer) or 0.0 for layer in tried)) or _FULL
    middle, bottom = _TOP + _TALL, _TOP + 2 * _TALL + _GAP
    y = Scale(0.0, 100 * peak, middle, _TOP)
    worst = sorted(tried, key=lambda layer: -(_error(layer) or 0.0))
    described = "; ".join(f"{layer.tensor}: {figures.percent(_error(layer))} at the outputs" for layer in worst[:8])
    return picture(
        f"Error of each layer, {name}",
        f"The worst: {described}",
        bottom + 20,
        left_axis(y, ticks(0.0, 100 * peak, 4), _LEFT, _RIGHT, "Error at the outputs with this layer alone in int8, %"),
        *(_bars(layer, index, step, y) for index, layer in enumerate(found)),
        _names(worst[:_NAMED], found, step, y),
        tag("line", x1=_LEFT, x2=_RIGHT, y1=middle, y2=middle, class_="zero"),
        _noise(found, step, middle + _GAP, bottom),
        _ends(bottom),
    )


def noise(name: str, found: Sequence[Layer]) -> Markup:
    """Draw the layers' own noise alone, for a file that nobody had to diagnose."""
    step, bottom = (_RIGHT - _LEFT) / len(found), _TOP + _TALL
    known = sorted((layer.sqnr_db, layer.tensor) for layer in found if layer.sqnr_db is not None)
    described = "; ".join(f"{tensor}: {db:.1f} dB" for db, tensor in known[:8]) or "none differs"
    return picture(
        f"Noise of each layer, {name}",
        f"The noisiest: {described}",
        bottom + 20,
        _noise(found, step, _TOP, bottom),
        _ends(bottom),
    )


def _ends(bottom: float) -> Markup:
    return join(
        tag("text", "first layer", x=_LEFT, y=bottom + 16, class_="tick"),
        tag("text", "last", x=_RIGHT, y=bottom + 16, text_anchor="end", class_="tick"),
    )


def key() -> Markup:
    """Return what the colours mean."""
    words = (("activation", "its output in int8"), ("weights", "its weights in int8"), ("noise", "signal to noise"))
    items = (tag("span", tag("i", aria_hidden="true"), text, class_=kind) for kind, text in words)
    return tag("div", *items, class_="key layers-key")


def _error(layer: Layer) -> float | None:
    known = [error for error in (layer.output_error, layer.weights_output_error) if error is not None]
    return max(known, default=None)


def _bars(layer: Layer, index: int, step: float, y: Scale) -> Markup | None:
    pair = (("activation", layer.output_error), ("weights", layer.weights_output_error))
    drawn = [(kind, error) for kind, error in pair if error is not None]
    if not drawn:
        return None
    words = ", ".join(f"its {'output' if kind == 'activation' else kind} {figures.percent(e)}" for kind, e in drawn)
    width = max(0.8 * step / 2, 0.5)
    parts: list[Child] = [tag("title", f"{layer.tensor} ({layer.op or 'input'}): {words} at the outputs")]
    for kind, error in drawn:
        top = y(100 * min(error, _FULL))
        x = _LEFT + (index + 0.1) * step + (width if kind == "weights" else 0.0)
        parts.append(tag("rect", x=x, y=top, width=width, height=max(y.start - top, 0.0), class_=f"layer {kind}"))
    return tag("g", *parts)


def _names(worst: Sequence[Layer], found: Sequence[Layer], step: float, y: Scale) -> Markup:
    """Write the names of the worst layers beside their bars, where there is room."""
    positions = {layer.tensor: index for index, layer in enumerate(found)}
    taken: list[Box] = []
    parts: list[Child] = []
    limit = _WORTH_A_NAME * (_error(worst[0]) or 0.0)
    for layer in (each for each in worst if (_error(each) or 0.0) >= limit):
        text = shorten(layer.tensor.split(";")[-1], _NAME_LENGTH)
        start = _LEFT + positions[layer.tensor] * step - _ROOM
        end = start + step + 2 * _ROOM
        wide = _CHARACTER * len(text)
        before = end + wide > _RIGHT
        left = start - wide if before else end
        top = max(y(100 * min(_error(layer) or 0.0, _FULL)), _TOP + 2)
        wanted = Box(left, left + wide, top, top + 14)
        shift = free_height(wanted, taken, _TOP - 4, y.start)
        taken.append(Box(wanted.left, wanted.right, wanted.top + shift, wanted.bottom + shift))
        anchor, beside = ("end", start) if before else ("start", end)
        parts.append(tag("text", text, x=beside, y=top + shift + 11, text_anchor=anchor, class_="label strong"))
    return join(*parts)


def _noise(found: Sequence[Layer], step: float, top: float, bottom: float) -> Markup:
    known = [(i, layer, layer.sqnr_db) for i, layer in enumerate(found) if layer.sqnr_db is not None]
    label = "Signal to noise of the layer itself, dB"
    if not known:
        return tag("text", "No noise: the file does not run, or answers exactly alike", x=_LEFT, y=top, class_="note")
    low, high = min(0.0, *(db for *_, db in known)), max(10.0, *(db for *_, db in known))
    low, high = 10 * math.floor(low / 10), 10 * math.ceil(high / 10)
    y = Scale(low, high, bottom, top)
    dots = (
        tag(
            "circle", tag("title", f"{layer.tensor}: {db:.1f} dB"),
            cx=_LEFT + (index + 0.5) * step, cy=y(db), r=2.6, class_="layer noise",
        )
        for index, layer, db in known
    )  # fmt: skip
    return join(left_axis(y, ticks(low, high, 4), _LEFT, _RIGHT, label), *dots)
