"""Draw what a model file holds, at 80 columns: what goes in and out, the cost, the task, the targets."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekit.console.plan import show_notes
from edgekit.inspection import Inspection
from edgekit.inspection.draft import Draft
from edgekit.inspection.guess import Guess
from edgekit.inspection.network import Tensor
from edgekit.inspection.refusals import Answer

_KINDS_SHOWN = 14
_REFUSALS_SHOWN = 4
_FORMATS = {
    "keras": "Keras", "h5": "Keras HDF5", "saved_model": "SavedModel", "onnx": "ONNX", "tflite": "TFLite",
    "pt2": "PyTorch as ONNX",
}  # fmt: skip


def show_inspection(found: Inspection) -> None:
    """Print an inspection."""
    out = Console(highlight=False)
    info, network = found.source, found.network
    title = " ".join(filter(None, (_FORMATS[info.format], network.version)))
    out.print(f"[bold]{_plain(str(info.path))}[/]  {escape(title)}, {_bytes(info.size_bytes)}\n", soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for tensor in network.inputs:
        table.add_row("input", _tensor(tensor))
    for tensor in network.outputs:
        table.add_row("output", _tensor(tensor))
    table.add_row("size", _cost(found))
    table.add_row("ops", _ops(network.histogram))
    if network.quantized:
        table.add_row("int8", f"quantized already: {escape(network.quantized)}")
    if network.custom_ops:
        table.add_row("custom", escape(", ".join(network.custom_ops)))
    table.add_row("task", _task(found.task))
    for check in found.task.check:
        table.add_row("", f"[dim]check: {escape(check)}[/]")
    out.print(table)
    if found.targets:
        out.print()
        out.print(_targets(found.targets))
    show_notes([*info.warnings, *network.notes])


def show_draft(found: Inspection, made: Draft, path: Path) -> None:
    """Print what a first recipe takes for granted, and what is still missing in it."""
    out = Console(highlight=False)
    out.print(f"Wrote [bold]{_plain(str(path))}[/]: {escape(task_in_words(found.task))}.")
    out.print(f"[dim]{_plain(found.task.why)}[/]\n")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for line in made.assumed:
        table.add_row("check", _plain(line))
    for line in made.fill_in:
        table.add_row("fill in", f"[yellow]{_plain(line)}[/]")
    table.add_row("then", f"edgekit build -c {_plain(str(path))}")
    out.print(table)
    show_notes([*found.source.warnings, *found.network.notes])


def task_in_words(task: Guess) -> str:
    """Return e.g. "detection, decoder rows, 80 classes"."""
    decoder = task.settings.get("decoder")
    classes = f"{task.classes} classes" if task.classes else ""
    return ", ".join(filter(None, (task.kind, f"decoder {decoder}" if decoder else "", classes)))


def _tensor(tensor: Tensor) -> str:
    axes = [axis for axis in tensor.dynamic_axes if axis]
    note = f"  [yellow]axis {', '.join(map(str, axes))} has no size[/]" if axes else ""
    return f"{_plain(tensor.name)}  {tensor.shape_text} {tensor.dtype} {tensor.layout}".rstrip() + note


def _cost(found: Inspection) -> str:
    network = found.network
    parts = [f"{network.parameters:,} parameters" if network.parameters is not None else "parameters unknown"]
    if network.weight_bytes is not None:
        parts.append(f"{_bytes(network.weight_bytes)} of weights")
    counted = network.macs
    if counted is not None:
        parts.append(f"{_count(counted)} MACs")
    elif network.uncounted:
        parts.append(f"MACs unknown for {', '.join(network.uncounted[:4])}")
    if found.activation_bytes is not None:
        parts.append(f"{_bytes(found.activation_bytes)} of activations at most, at batch 1")
    return escape(", ".join(parts))


def _ops(histogram: dict[str, int]) -> str:
    kinds = [f"{count} {kind}" for kind, count in histogram.items()]
    more = f", and {len(kinds) - _KINDS_SHOWN} more kinds" if len(kinds) > _KINDS_SHOWN else ""
    return _plain(", ".join(kinds[:_KINDS_SHOWN])) + more


def _task(task: Guess) -> str:
    return f"looks like [bold]{escape(task_in_words(task))}[/]: {_plain(task.why)}"


def _targets(answers: tuple[Answer, ...]) -> Table:
    """Draw one row for all targets that answer alike."""
    alike: dict[tuple[str, str], list[str]] = {}
    for answer in answers:
        alike.setdefault((f"{answer.precision} {answer.format}", _answer(answer)), []).append(answer.target)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for (file, says), names in alike.items():
        table.add_row(file, f"{says}\n[dim]{escape(', '.join(names))}[/]")
    return table


def _answer(answer: Answer) -> str:
    layouts = "".join(
        f"\n[yellow]{_plain(name)} is taken as {file}, not {model}[/]" for name, (model, file) in answer.layouts.items()
    )
    return _taken(answer) + layouts


def _taken(answer: Answer) -> str:
    if answer.refused:
        lines = [f"[red]refused[/]: {_plain(line)}" for line in answer.refused[:_REFUSALS_SHOWN]]
        more = len(answer.refused) - _REFUSALS_SHOWN
        return "\n".join(lines + ([f"... and {more} more"] if more > 0 else []))
    if not answer.float_ops:
        return "[green]taken[/]"
    kept = ", ".join(f"{count} {kind}" for kind, count in answer.float_ops.items())
    why = "".join(f"\n[dim]{escape(kind)}: {escape(reason)}[/]" for kind, reason in answer.reasons.items())
    return f"[green]taken[/]; float32 stay {_plain(kept)}{why}"


def _plain(text: str) -> str:
    """Return a stranger's text on one line, with nothing in it that a terminal obeys."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count:,} bytes"


def _count(value: int) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return str(value)
