"""One diagnosis as a page of its own, for a file that no build made."""

from __future__ import annotations

from edgekit.diagnose.schema import Diagnosis
from edgekit.report.diagnosis_section import body
from edgekit.report.html import page
from edgekit.report.markup import tag


def render(found: Diagnosis, artifact: str, float_model: str) -> str:
    """Return the page; ``artifact`` and ``float_model`` are the two files as the user named them."""
    name = artifact.rpartition("/")[2]
    facts = f"{artifact} ({found.format}) against {float_model}."
    return page(
        f"{name}: edgekit diagnose",
        tag("header", tag("h1", name), tag("p", facts, class_="soft")),
        tag("main", body(found, name)),
        tag("footer", "Every figure here is printed by edgekit diagnose --json as well."),
    )
