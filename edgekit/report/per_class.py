"""The metric class by class, before and after: an average can hide a class that was lost."""

from __future__ import annotations

from edgekit.report import figures
from edgekit.report.markup import Markup, tag
from edgekit.report.schema import TargetReport, Variant
from edgekit.report.table import missing, table


def per_class(target: TargetReport) -> Markup | None:
    """Return a folded table, the largest losses first, or nothing where the task has no classes."""
    baseline = figures.find(target, target.baseline)
    after = compared(target)
    if not baseline or not after or not baseline.accuracy or not after.accuracy:
        return None
    before_values, after_values = baseline.accuracy.per_class, after.accuracy.per_class
    if not before_values or not after_values:
        return None
    changes = {
        name: (after_values[name] - value) * 100 for name, value in before_values.items() if name in after_values
    }
    rows = [
        [
            name,
            f"{value:.3f}",
            f"{after_values[name]:.3f}" if name in after_values else missing("not scored"),
            figures.points(changes[name]) if name in changes else missing("unknown"),
        ]
        for name, value in sorted(before_values.items(), key=lambda item: changes.get(item[0], float("-inf")))
    ]
    head = ["Class", baseline.name, after.name, "Change in points"]
    metric = baseline.accuracy.metric
    return tag(
        "details",
        tag("summary", f"{metric} for each class, {baseline.name} against {after.name}"),
        table(f"{metric} for each class", head, rows, numbers=(1, 2, 3)),
        class_="panel",
    )


def compared(target: TargetReport) -> Variant | None:
    """Return what ships, or where float ships the last variant that was scored."""
    shipped = figures.find(target, target.shipped)
    if shipped is not None and shipped.name != target.baseline:
        return shipped
    return next((v for v in reversed(target.variants[1:]) if v.accuracy is not None), None)
