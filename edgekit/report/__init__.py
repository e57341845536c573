"""One small serializer per format; each module has ``render(report: Report) -> str``."""

from __future__ import annotations

FORMATS = {
    "json": "edgekit.report.json",
    "md": "edgekit.report.markdown",
    "html": "edgekit.report.html",
}
