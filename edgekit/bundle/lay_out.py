"""Lay out what to deploy on each target: the shipped file with everything that has to go along with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from edgekit.build_folder import BuildFolder
from edgekit.bundle import card, record, sbom
from edgekit.bundle.record import Origin
from edgekit.pipeline import Outcome
from edgekit.report.schema import Report, TargetReport, Variant
from edgekit.steps import Group, Row

MANIFEST = "model.json"
PLAN_SUFFIX = ".plan.json"
LABELS = "labels.txt"
RUNNERS = {  # by how the target is reached: the smallest program that runs the file there
    "ssh": ("edgekit_run.py",),
    "local": ("edgekit_run.py",),
    "adb": ("EdgekitModel.kt",),
    "browser": ("edgekit.html", "edgekit.js"),
}


def place_of(target: str) -> str:
    """Return the folder of a target's bundle, relative to the build folder."""
    return f"artifacts/{target}"


def lay_out(origin: Origin, groups: Sequence[Group], outcome: Outcome, folder: BuildFolder) -> Report:
    """Write the bundle of every target that has something to ship; return the report that says where."""
    targets = []
    for group, verdict in zip(groups, origin.report.targets, strict=True):
        if verdict.shipped:
            _Bundle(origin, group, verdict, outcome, folder).write()
            verdict = verdict.model_copy(update={"bundle": place_of(group.target.name)})
        targets.append(verdict)
    return origin.report.model_copy(update={"targets": targets})


class _Bundle:
    def __init__(
        self, origin: Origin, group: Group, verdict: TargetReport, outcome: Outcome, folder: BuildFolder
    ) -> None:
        self.origin, self.group, self.verdict = origin, group, verdict
        self.outcome, self.folder = outcome, folder
        self.place = place_of(group.target.name)

    def write(self) -> None:
        """Write the shipped file, and beside it the other good precisions that this target takes."""
        outputs = self.group.target.outputs
        taken = {output.precision for output in outputs if output.format == self.group.format}
        for row, variant in zip(self.group.rows, self.verdict.variants, strict=True):
            companion = row.precision in taken and variant.status == "kept" and row.emit in self.outcome.entries
            if row.name == self.verdict.shipped or companion:
                self._artifact(row, variant)

    def _artifact(self, row: Row, variant: Variant) -> None:
        entry = self.outcome.entries[row.emit]
        file = f"{row.name}.{row.format}"
        self._put(file, entry.path(f"model.{row.format}").read_bytes())
        manifest: dict[str, Any] = json.loads(entry.path(MANIFEST).read_text())
        manifest |= {"file": file, "task": self._task()}
        beside = {f"{file}.json": self._put_json(f"{file}.json", manifest)}
        if row.name == self.verdict.shipped and self.group.format == self.group.target.primary.format:
            self._put_json(MANIFEST, manifest)
        plan = self.outcome.entries.get(row.emit.replace("emit-", "plan-", 1))
        if plan is not None:
            name = f"{file}{PLAN_SUFFIX}"
            beside[name] = self._put(name, plan.path("plan.json").read_bytes())
        if manifest["labels"]:
            beside[LABELS] = self._put(LABELS, "".join(f"{label}\n" for label in manifest["labels"]).encode())
        for name in RUNNERS[self.group.target.device.kind]:
            beside[name] = self._put(name, (files("edgekit.bundle.runners") / name).read_bytes())
        name = f"{file}{sbom.SUFFIX}"
        beside[name] = self._put_json(name, sbom.sbom(self.origin, variant, file))
        name = f"{file}{card.SUFFIX}"
        beside[name] = self._put(name, card.card(self.origin, self.verdict, variant, manifest).encode())
        self._put_json(f"{file}{record.SUFFIX}", record.record(self.origin, variant, file, beside))

    def _task(self) -> dict[str, Any]:
        return self.origin.recipe.task.model_dump(mode="json", exclude={"adapter", "classes"})

    def _put(self, name: str, content: bytes) -> str:
        self.folder.write(f"{self.place}/{name}", content)
        return hashlib.sha256(content).hexdigest()

    def _put_json(self, name: str, value: Mapping[str, Any]) -> str:
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return self._put(name, (text + "\n").encode())
