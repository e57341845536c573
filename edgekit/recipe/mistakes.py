"""What is wrong with a recipe, in words: each mistake with its key, a misspelt one with the nearest that is known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

_TYPE_TAG = re.compile(r"^(constrained-|literal\[|int$|float$|str$)")  # how pydantic tells members of a union apart


def explain(items: Sequence[Any], document: type[BaseModel]) -> list[str]:
    """Return a line for each mistake in what should have been a ``document``.

    A value that may be of several types breaks a rule of each.
    """
    wrong: dict[tuple[Any, ...], list[Any]] = {}
    for item in items:
        place = tuple(part for part in item["loc"] if not _TYPE_TAG.search(str(part)))
        wrong.setdefault(place, []).append(item)
    return [_line(place, found, document) for place, found in wrong.items()]


def _line(place: tuple[Any, ...], items: list[Any], document: type[BaseModel]) -> str:
    where, item = ".".join(str(part) for part in place) or "the file", items[0]
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(place[-1]), _siblings(place, document), n=1)
        return f"{where}: unknown key" + (f"; did you mean {close[0]!r}?" if close else "")
    if item["type"] == "missing":
        return f"{where}: is needed and missing"
    found = item.get("input")
    shown = "" if isinstance(found, dict) else f" (found {found!r})"
    messages = [one["msg"].removeprefix("Value error, ") for one in items]
    return f"{where}: {' or '.join(dict.fromkeys(messages))}{shown}"


def _siblings(location: tuple[int | str, ...], document: type[BaseModel]) -> list[str]:
    table = document
    for part in location[:-1]:
        field = table.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        table = field.annotation
    return [field.alias or name for name, field in table.model_fields.items()]
