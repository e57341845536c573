"""The whole report inside its page, to be saved from there: a page that was mailed around keeps its evidence."""

from __future__ import annotations

import base64
import gzip

from edgekit.report import figures, json
from edgekit.report.markup import Markup, tag
from edgekit.report.schema import Latency, Report

FILE = "report.json"
CALLS = "latency.csv"
LARGEST_BYTES = 600_000  # packed; a page is to stay below 1.5 MB


def raw_data(report: Report) -> Markup:
    """Return the link that saves report.json, packed into the page; without a script it is saved as .gz.

    Where it would make the page too large, single calls and op times are left out, and the words say so.
    """
    text = json.render(report)
    packed = _pack(text)
    note = "Everything on this page and every timed call."
    calls = True
    if len(packed) > LARGEST_BYTES:
        text = json.render(_without_calls(report))
        packed, calls = _pack(text), False
        note = f"Without single calls and op times, which are too long for a page: they are in {FILE} beside it."
    if len(packed) > LARGEST_BYTES:
        return tag("p", f"Too long for a page: {FILE} lies beside it.", class_="empty")
    link = tag(
        "a",
        f"Save {FILE}",
        href=f"data:application/gzip;base64,{base64.b64encode(packed).decode()}",
        download=f"{FILE}.gz",
        data_unpack=FILE,
    )
    button = tag("button", f"Save the timed calls as {CALLS}", type="button", hidden=True, data_calls=CALLS)
    words = f"{note} {figures.size(len(text.encode()))}."
    return tag("p", link, button if calls else None, tag("span", words, class_="soft"), class_="raw")


def _pack(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)  # equal reports, equal pages


def _without_calls(report: Report) -> Report:
    def bare(latency: Latency | None) -> Latency | None:
        return latency and latency.model_copy(update={"samples_ns": [], "ops": []})

    targets = []
    for target in report.targets:
        rows = [
            row.model_copy(update={"latency": bare(row.latency), "host_latency": bare(row.host_latency)})
            for row in target.variants
        ]
        targets.append(target.model_copy(update={"variants": rows}))
    prune = report.prune
    if prune is not None:
        curve = [point.model_copy(update={"latency": bare(point.latency)}) for point in prune.curve]
        prune = prune.model_copy(update={"curve": curve})
    return report.model_copy(update={"targets": targets, "prune": prune})
