"""What the page says of low-rank pairs, of zeros, and of how files without them are stored."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.report import figures
from edgekit.report.markup import Markup, tag
from edgekit.report.schema import LowRankSummary, PruneSummary, Variant


def thinned_facts(prune: PruneSummary) -> Iterator[tuple[str, str]]:
    """Yield (title, sentence) for each thing that was done."""
    if prune.low_rank:
        kept = sum(layer.kept for layer in prune.low_rank.layers)
        words = f"{kept} of {len(prune.low_rank.layers)} layers became two thinner ones"
        if kept:
            words += f"; outputs changed by {prune.low_rank.output_error:.1%} of their spread before recovery"
        yield "Low rank", words
    if prune.sparsity:
        found = prune.sparsity
        share = f"{found.zeros / found.of:.0%} of the weights" if found.of else "none of the weights"
        yield "Zeros", f"{share} of {found.layers} layers: a smaller file, not a faster one"


def low_rank_layers(summary: LowRankSummary) -> Markup:
    """Return every layer with what decided."""
    lines = [f"{layer.layer}: {'two layers, ' if layer.kept else ''}{layer.why}" for layer in summary.layers]
    listed = tag("ul", *(tag("li", line) for line in lines), class_="plain")
    return tag("details", tag("summary", f"{len(lines)} layers, and why they are one or two"), listed)


def size_notes(variant: Variant) -> list[str]:
    """Say what a file is compressed, and what it would be with its zeros; nothing for an ordinary build."""
    notes = []
    if variant.gz_bytes is not None:
        notes.append(f"{figures.size(variant.gz_bytes)} as .gz")
    if variant.sparse is not None:
        dense = figures.size(variant.sparse.dense_bytes)
        notes.append(variant.sparse.note or f"{dense} with its zeros")
    return notes
