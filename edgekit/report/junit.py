"""JUnit XML of a check: a test suite per target, a test case per figure. Read by Jenkins, GitLab and others."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from edgekit.gate.findings import CheckResult, Finding
from edgekit.report.schema import Report

_BUILD = "build"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def render(result: CheckResult, report: Report) -> str:
    """Return the XML; the layout is that of Jenkins' junit-10.xsd, which GitLab reads too."""
    root = ElementTree.Element("testsuites", _counted(result.findings, name=f"edgekit: {_clean(result.name)}"))
    for target in dict.fromkeys(finding.target for finding in result.findings):
        found = [finding for finding in result.findings if finding.target == target]
        suite = ElementTree.SubElement(
            root, "testsuite", _counted(found, name=_clean(target or _BUILD)), timestamp=report.created[:19]
        )
        for finding in found:
            _case(suite, finding)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _counted(findings: list[Finding], *, name: str) -> dict[str, str]:
    failures = sum(finding.found == "failed" for finding in findings)
    return {"name": name, "tests": str(len(findings)), "failures": str(failures), "errors": "0"}


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    names = {"classname": f"edgekit.{_clean(finding.target or _BUILD)}", "name": _clean(title(finding)), "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", names)
    message = _clean(finding.message)
    if finding.found == "failed":
        failure = ElementTree.SubElement(case, "failure", message=message, type=finding.rule)
        failure.text = message
    else:
        ElementTree.SubElement(case, "system-out").text = message


def title(finding: Finding) -> str:
    """Return a name that stays the same from run to run, so that a history can be kept."""
    if finding.rule == "budget-missed":
        return f"budget {finding.metric}".strip()
    return f"{finding.metric} is the baseline's" if finding.metric else finding.rule


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
