"""HTML and SVG from data, escaped by default: only what `tag` made passes through unescaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

_VOID = {"meta", "br", "hr", "input"}


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


Child = Markup | str | float | None
Attribute = str | float | bool | None


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return one element; ``class_`` is class, ``_`` inside a name is ``-``, None and False leave it out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Return the children one after another, escaped unless they are `Markup`; None is nothing."""
    return Markup("".join(escape(child) for child in children if child is not None))


def escape(child: Child) -> Markup:
    return child if isinstance(child, Markup) else Markup(html.escape(_number(child)))


def _attribute(value: Attribute) -> str:
    return html.escape("true" if value is True else _number(value))


def _number(value: Child | bool) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def facts(rows: Sequence[tuple[str, Child]]) -> Markup:
    """Return a list of names with what is known of each."""
    return tag("dl", join(*(join(tag("dt", name), tag("dd", value)) for name, value in rows)), class_="facts")
