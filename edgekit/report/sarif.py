"""SARIF 2.1.0 of a check: one result per violation, at the line of the recipe that sets the limit.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from edgekit import __version__
from edgekit.gate.findings import RULES, CheckResult, Finding
from edgekit.report.schema import Report

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(result: CheckResult, report: Report) -> str:
    """Return the log as JSON text."""
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "edgekit", "version": __version__, "rules": [_rule(id) for id in RULES]}},
                "invocations": [{"executionSuccessful": True, "exitCode": result.exit_code}],
                "results": [_result(finding, result.recipe) for finding in result.violations],
                "columnKind": "unicodeCodePoints",
                "properties": {"run": result.run, "baseline": result.baseline, "edgekit": report.environment.edgekit},
            }
        ],
    }
    return json.dumps(log, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _rule(id: str) -> dict[str, Any]:
    return {
        "id": id,
        "name": id.title().replace("-", ""),
        "shortDescription": {"text": RULES[id]},
        "defaultConfiguration": {"level": "error"},
    }


def _result(finding: Finding, recipe: str) -> dict[str, Any]:
    where = f"{finding.target}: " if finding.target else ""
    identity = "\0".join((finding.rule, finding.target, finding.metric))
    return {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": "error",
        "message": {"text": f"{where}{finding.message}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(recipe or "edgekit.toml"), "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": finding.line},
                }
            }
        ],
        "partialFingerprints": {"edgekit/v1": hashlib.sha256(identity.encode()).hexdigest()[:32]},
        "properties": {"target": finding.target, "metric": finding.metric},
    }
