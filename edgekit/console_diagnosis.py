"""Draw a diagnosis: the causes in order of blame, then the layers that differ most."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from edgekit.diagnose.schema import Diagnosis, Layer

_FINDINGS_SHOWN = 6
_LAYERS_SHOWN = 10
_WORST_SHOWN = 5
_HARM = {"fails": "red", "accuracy": "yellow", "latency": "cyan"}


def show_diagnosis(found: Diagnosis) -> None:
    """Print what is wrong and what cures it; then the figures of the worst layers and samples."""
    out = Console(highlight=False)
    if not found.findings:
        out.print("[green]✓[/] nothing to blame: the artifact answers as its float model does")
    for number, finding in enumerate(found.findings[:_FINDINGS_SHOWN], start=1):
        harm = f"[{_HARM[finding.harm]}]{finding.harm}[/], blame {finding.blame:.3g}"
        out.print(f"[bold]{number}. {escape(finding.cause)}[/]  {harm}  [dim]{escape(', '.join(finding.where[:2]))}[/]")
        out.print(Padding(escape(finding.proof), (0, 0, 0, 3)))
        out.print(Padding(f"[green]cure:[/] {escape(finding.cure)}", (0, 0, 0, 3)))
    if len(found.findings) > _FINDINGS_SHOWN:
        out.print(f"[dim]and {len(found.findings) - _FINDINGS_SHOWN} smaller ones: --json[/]")
    _outputs(out, found)
    _layers(out, found)
    worst = [item for item in found.worst_samples if item.relative_error is not None][:_WORST_SHOWN]
    if worst:
        samples = ", ".join(f"{item.sample} ({item.relative_error:.3g})" for item in worst)
        out.print(f"\n[dim]worst samples, relative error at the outputs: {escape(samples)}[/]")


def _outputs(out: Console, found: Diagnosis) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("output")
    table.add_column("relative error", justify="right")
    for item in found.outputs:
        error = "NaN or infinite" if item.relative_error is None else f"{item.relative_error:.4f}"
        table.add_row(escape(item.output), error)
    out.print()
    out.print(table)


def _layers(out: Console, found: Diagnosis) -> None:
    ranked = sorted(found.layers, key=_harm, reverse=True)[:_LAYERS_SHOWN]
    if not ranked:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="ellipsis", max_width=28, no_wrap=True)
    for name in ("op", "SQNR dB", "range used", "clipped", "at outputs"):
        table.add_column(name, justify="left" if name == "op" else "right")
    for layer in ranked:
        table.add_row(
            escape(layer.tensor), escape(layer.op[:14]),
            "-" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}",
            "-" if layer.range_used is None else f"{layer.range_used:.0%}",
            f"{(layer.clipped_low or 0) + (layer.clipped_high or 0):.2%}",
            "-" if layer.output_error is None else f"{layer.output_error:.4f}",
        )  # fmt: skip
    out.print()
    out.print(table)


def _harm(layer: Layer) -> tuple[float, float]:
    return layer.output_error or 0.0, -(layer.sqnr_db if layer.sqnr_db is not None else 1e9)
