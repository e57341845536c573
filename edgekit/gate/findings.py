"""What a check found, as data: one finding for every thing that was looked at."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgekit.report.schema import Model

Found = Literal["passed", "failed", "noted"]

RULES = {
    "build-failed": "A stage of the build failed.",
    "target-skipped": "A target that was asked for has no verdict.",
    "nothing-ships": "A target has no file to ship.",
    "not-a-number": "A figure is NaN or infinite.",
    "unscored": "A variant has no accuracy.",
    "untimed": "What ships on a timed target has no latency.",
    "budget-missed": "A budget of the recipe was missed, or could not be measured.",
    "accuracy-changed": "The accuracy is not that of the baseline.",
    "size-changed": "The size is not that of the baseline.",
    "speedup-changed": "The speed-up is not that of the baseline.",
    "latency-changed": "The latency is not that of the baseline.",
    "memory-changed": "The peak memory is not that of the baseline.",
    "figure-missing": "The baseline has a figure that this run lacks.",
    "conditions-differ": "Data, device or runtime are not those of the baseline.",
}


class Finding(Model):
    """One figure, or one promise, and whether it holds."""

    rule: str = Field(description="one of the rules above; the id in SARIF")
    found: Found
    target: str = Field(description="empty where the whole build is meant")
    metric: str = Field(default="", description="accuracy | size | speedup | latency | memory, or a budget's name")
    message: str = Field(description="one line: what, how much, what is allowed")
    unit: str = ""
    before: float | None = Field(default=None, description="the baseline's figure")
    now: float | None = None
    limit: str = Field(default="", description="what is allowed, in words")
    change: float | None = Field(default=None, description="in points or percent, positive where better")
    change_low: float | None = Field(default=None, description="interval of the change; null: not known")
    change_high: float | None = None
    line: int = Field(default=1, description="line of the recipe that sets the limit")


class CheckResult(Model):
    """The outcome of ``edgekit check``."""

    schema_version: Literal[1] = 1
    name: str
    run: str = Field(description="when the run was built, and from which source")
    baseline: str = Field(default="", description="the same of the baseline; empty without one")
    recipe: str = Field(default="", description="path of the recipe, for annotations")
    passed: bool
    exit_code: int
    findings: list[Finding]

    @property
    def violations(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.found == "failed"]
