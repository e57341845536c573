"""One small serializer per format.

``FORMATS`` have ``render(report) -> str``, and a build writes each; ``CHECK_FORMATS``, of what the gate found, have
``render(result, report) -> str``.
"""

from __future__ import annotations

FORMATS = {
    "json": "edgekit.report.json",
    "md": "edgekit.report.markdown",
    "html": "edgekit.report.html",
}
CHECK_FORMATS = {
    "junit": "edgekit.report.junit",
    "sarif": "edgekit.report.sarif",
    "comment": "edgekit.report.comment",
    "annotations": "edgekit.report.annotations",
}
