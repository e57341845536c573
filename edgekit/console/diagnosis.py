"""Draw a diagnosis: the causes in order of blame, then the layers that differ most."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from edgekit.diagnose.schema import Diagnosis, WorstSample

_FINDINGS_SHOWN = 6
_LAYERS_SHOWN = 10
_WORST_SHOWN = 5
_CLASSES_SHOWN = 8
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
    _classes(out, found)
    worst = [item for item in found.worst_samples if item.relative_error is not None or item.lost][:_WORST_SHOWN]
    if worst:
        out.print("\n[bold]worst samples[/] [dim](relative error at the outputs)[/]")
        for item in worst:
            out.print(f"  {escape(item.sample)}  [dim]{_of_sample(item)}[/]")
    out.print(f"\n[dim]{found.samples} samples, {found.probes} single changes tried at the outputs[/]")
    if not found.complete:
        out.print("[dim]time was up before every layer was tried: --time-budget gives it more[/]")


def _of_sample(item: WorstSample) -> str:
    error = "NaN or infinite" if item.relative_error is None else f"{item.relative_error:.3g}"
    return error if item.lost is None else f"{error}, {item.lost} right in float and lost here"


def _classes(out: Console, found: Diagnosis) -> None:
    """Print class by class how often the artifact decides as the float model, the worst first; the metric if known."""
    if not found.classes:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="ellipsis", max_width=24, no_wrap=True)
    names = ["float decides", "artifact agrees"]
    if found.metric:
        names += [f"{found.metric}, float", "artifact"]
    for name in names:
        table.add_column(name, justify="right")
    if found.float_value is not None and found.artifact_value is not None:
        table.add_row("[dim]all[/]", "", "", f"{100 * found.float_value:.1f}", f"{100 * found.artifact_value:.1f}")
    ranked = sorted(found.classes, key=lambda each: each.loss, reverse=True)
    for each in ranked[:_CLASSES_SHOWN]:
        agreed = "-" if each.agreement is None else f"{each.agreement:.0%}"
        figures = (each.float_metric, each.artifact_metric) if found.metric else ()
        table.add_row(
            escape(each.name), str(each.count), agreed,
            *("-" if value is None else f"{100 * value:.1f}" for value in figures),
        )  # fmt: skip
    out.print()
    out.print(table)
    if len(ranked) > _CLASSES_SHOWN:
        out.print(f"[dim]and {len(ranked) - _CLASSES_SHOWN} classes that lost less: --json[/]")


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
    ranked = sorted(found.layers, key=lambda layer: layer.harm, reverse=True)[:_LAYERS_SHOWN]
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
