"""Tables that stay tables on a wide screen and for a screen reader, and become lists on a phone."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.report.markup import Child, Markup, tag


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Child]],
    *,
    numbers: Sequence[int] = (),
    marked: Sequence[bool] = (),
) -> Markup:
    """Return a table whose first column is row headers; ``numbers`` are right-aligned columns.

    Roles are spelled out because the phone layout changes ``display``, which drops a table's own.
    """
    titles = (
        tag("th", title, scope="col", role="columnheader", class_=_align(index, numbers))
        for index, title in enumerate(head)
    )
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *titles, role="row"), role="rowgroup"),
        tag(
            "tbody",
            *(_row(head, row, numbers, bool(marked and marked[i])) for i, row in enumerate(rows)),
            role="rowgroup",
        ),
        role="table",
    )


def _row(head: Sequence[str], cells: Sequence[Child], numbers: Sequence[int], ships: bool) -> Markup:
    first = tag("th", cells[0], scope="row", role="rowheader")
    rest = (
        tag(
            "td",
            tag("div", cell, class_="cell"),
            role="cell",
            class_=_align(index, numbers),
            data_label=head[index],
        )
        for index, cell in enumerate(cells)
        if index
    )
    return tag("tr", first, *rest, role="row", class_="ships" if ships else None)


def _align(index: int, numbers: Sequence[int]) -> str | None:
    return "number" if index in numbers else None


def badge(text: str, kind: str) -> Markup:
    return tag("span", text, class_=f"badge {kind}")


def soft(text: str) -> Markup:
    """Return a second, quieter line of a cell."""
    return tag("span", text, class_="soft")


def missing(text: str) -> Markup:
    """Return words that stand where a number would."""
    return tag("span", text, class_="missing")
