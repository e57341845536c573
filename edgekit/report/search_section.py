"""What the precision search tried for one target, folded: a reader who doubts a plan finds its reasons here."""

from __future__ import annotations

from edgekit.report import figures
from edgekit.report.markup import Markup, join, tag
from edgekit.report.schema import FinetuneSummary, SearchSummary, TargetReport, Variant
from edgekit.report.table import missing, table

_SENSITIVE_SHOWN = 8


def search_section(target: TargetReport) -> Markup | None:
    """Return a folded panel with every plan tried, or nothing where none was searched for."""
    searched = [variant for variant in target.variants if variant.search is not None]
    if not searched:
        return None
    return tag(
        "details",
        tag("summary", "Which ops stay float, and how that was found"),
        *(_variant(variant, variant.search) for variant in searched if variant.search),
        class_="panel",
    )


def sentence(search: SearchSummary) -> str:
    """Return the outcome of a search in one sentence."""
    count = len(search.log)
    tried = f"{count} plan{'s' if count > 1 else ''} tried on {search.held_samples} calibration samples held apart"
    if search.loss is None:
        return f"{tried}; none of them runs."
    kept = f"{100 * (1 - search.loss):.2f} % agreement with the float model"
    ends = "" if search.complete else "; time ran out, this is the best so far"
    missed = "" if search.reached else f", short of the {100 * (1 - search.target_loss):.2f} % aimed at"
    return f"{tried}: {kept}{missed}{ends}.{_finetuning(search.finetune)}"


def _finetuning(found: FinetuneSummary | None) -> str:
    if found is None or not found.needed:
        return ""
    if found.loss_before is None or found.loss_after is None:
        return f" Fine-tuning on {found.samples} samples was tried and not used."
    before, after = (f"{100 * (1 - loss):.2f} %" for loss in (found.loss_before, found.loss_after))
    used = "These are plans of the fine-tuned model" if found.kept else "The fine-tuned model is not used"
    return f" {used}: {found.epochs} epochs on {found.samples} unlabelled samples, {before} -> {after} agreement."


def _variant(variant: Variant, search: SearchSummary) -> Markup:
    rows = [
        [
            tried.what,
            str(tried.float_ops),
            missing(tried.refusal or "does not run") if tried.loss is None else f"{100 * (1 - tried.loss):.2f} %",
            figures.size(tried.size_bytes) if tried.size_bytes else missing("not made"),
        ]
        for tried in search.log
    ]
    tried = table(
        f"Plans tried for {variant.name}", ["Plan", "Float ops", "Agreement", "Size"], rows, numbers=(1, 2, 3)
    )
    return join(tag("p", tag("strong", variant.name), ": ", sentence(search)), tried, _sensitivity(variant, search))


def _sensitivity(variant: Variant, search: SearchSummary) -> Markup | None:
    if not search.sensitivity:
        return None
    rows = [
        [
            item.unit.split(";")[-1],
            item.kind,
            missing("not needed") if item.loss is None else f"{100 * item.loss:.2f} %",
            missing("does not run") if item.error is None else f"{item.error:.2e}",
            missing("not needed") if item.gain_ms is None else f"{item.gain_ms:+.3f} ms",
        ]
        for item in search.sensitivity[:_SENSITIVE_SHOWN]
    ]
    caption = f"Most sensitive in {variant.name}: when it alone is int8 (times not interleaved, a hint)"
    return table(caption, ["Op", "Kind", "Agreement lost", "Noise to signal", "Time saved"], rows, numbers=(2, 3, 4))
