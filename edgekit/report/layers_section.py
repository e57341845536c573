"""What int8 does to each layer, in the order they run; a file with a diagnosis shows it there."""

from __future__ import annotations

from edgekit.diagnose.schema import Layer
from edgekit.report.charts.layers import noise
from edgekit.report.markup import Markup, join, tag
from edgekit.report.schema import TargetReport
from edgekit.report.table import missing, table

_SHOWN = 8


def layers_section(target: TargetReport) -> Markup | None:
    """Return a panel for each file whose layers were compared, or nothing where none was."""
    found = [(variant.name, variant.layers) for variant in target.variants if variant.layers]
    return join(*(_panel(name, layers) for name, layers in found)) if found else None


def _panel(name: str, layers: list[Layer]) -> Markup:
    noisiest = sorted(layers, key=lambda layer: float("inf") if layer.sqnr_db is None else layer.sqnr_db)[:_SHOWN]
    rows = [[layer.tensor.split(";")[-1], layer.op or "input", _decibels(layer)] for layer in noisiest]
    words = (
        "Against the same layer of the float model, with all before it in int8 too. Higher is closer: 20 dB are a tenth"
        " of the signal, 40 dB a hundredth. What counts is the accuracy above."
    )
    picture = tag(
        "div",
        tag("h3", f"What int8 does to each layer of {name}"),
        tag("p", words, class_="soft small"),
        noise(name, layers),
        class_="panel",
    )
    noisy = table(f"Noisiest layers of {name}", ["Layer", "Op", "Signal to noise"], rows, numbers=(2,))
    figures = tag("div", noisy, class_="panel")
    return tag("div", tag("div", picture, class_="column"), tag("div", figures, class_="column"), class_="pair")


def _decibels(layer: Layer) -> Markup | str:
    return missing("equal") if layer.sqnr_db is None else f"{layer.sqnr_db:.1f} dB"
