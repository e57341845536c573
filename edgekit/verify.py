"""Does an artifact still match what lies beside it, the recipe it came from, and the tools that made it?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit import installed, recipe
from edgekit.artifact import Artifact, digest
from edgekit.bundle import record, sbom
from edgekit.bundle.lay_out import MANIFEST
from edgekit.convert import package
from edgekit.errors import RecipeError, StageError
from edgekit.provenance import content_of

_FORMATS = (".tflite", ".onnx")
_DESCRIBED = ("sha256", "size_bytes", "format", "inputs", "outputs")


@dataclass(frozen=True)
class Claim:
    """One thing that is said of the artifact. ``noted``: it need not hold, but a rebuild may differ."""

    what: str
    found: Literal["holds", "broken", "noted"]
    detail: str = ""


def verify(artifact: Path, recipe_path: Path | None = None) -> list[Claim]:
    """Re-hash an artifact and everything that its model.json and record say; with a recipe, also where it came from.

    Raises RecipeError where the file is no artifact of a build.
    """
    if artifact.suffix not in _FORMATS or not artifact.is_file():
        raise RecipeError(f"{artifact} is no .tflite or .onnx file.", "Name a file under artifacts/ of a build folder.")
    manifest = _manifest(artifact)
    claims = [*_file(artifact, manifest)]
    written = artifact.with_name(f"{artifact.name}{record.SUFFIX}")
    if not written.is_file():
        return [*claims, Claim("record", "broken", f"{written.name} is missing")]
    known = _json(written)
    claims += _record(artifact, known)
    if recipe_path is not None:
        claims += _origin(known, recipe_path)
    return [*claims, *_tools(known)]


def _manifest(artifact: Path) -> dict[str, Any]:
    for name in (f"{artifact.name}.json", MANIFEST):
        path = artifact.with_name(name)
        if path.is_file():
            found = _json(path)
            if found.get("file") == artifact.name:
                return found
    raise RecipeError(
        f"Nothing beside {artifact} describes it: there is no {artifact.name}.json.",
        "Files under artifacts/ of a build folder have one; copy it along with the model.",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "Copy it again from the build folder.") from error
    if not isinstance(found, dict):
        raise RecipeError(f"{path} is not a table.", "Copy it again from the build folder.")
    return found


def _file(artifact: Path, manifest: dict[str, Any]) -> Iterator[Claim]:
    sha256 = digest(artifact)
    yield _equal("artifact sha256", manifest.get("sha256"), sha256)
    yield _equal("artifact size", manifest.get("size_bytes"), artifact.stat().st_size)
    if sha256 != manifest.get("sha256"):
        return  # what is inside a changed file says nothing more
    format = artifact.suffix[1:]
    try:
        inside = package.read(artifact, format)
        inputs, outputs = package.tensor_specs(artifact, format)
    except StageError as error:
        yield Claim("metadata inside", "broken", error.message)
        return
    file = Artifact(artifact, format, str(manifest.get("precision")), inputs, outputs, sha256, artifact.stat().st_size)
    described = json.loads(json.dumps(package.model_json(file)))
    for name in _DESCRIBED[2:]:
        yield _equal(name, manifest.get(name), described[name])
    for name in ("labels", "preprocess", "edgekit"):
        yield _equal(f"{name} inside the file", manifest.get(name), inside.get(name))


def _record(artifact: Path, known: dict[str, Any]) -> Iterator[Claim]:
    yield _equal("record's sha256", known.get("artifact", {}).get("sha256"), digest(artifact))
    for name, sha256 in known.get("files", {}).items():
        path = artifact.parent / Path(name).name
        yield _equal(name, sha256, digest(path) if path.is_file() else "missing")
    bill = artifact.with_name(f"{artifact.name}{sbom.SUFFIX}")
    if bill.is_file():
        hashes = _json(bill).get("metadata", {}).get("component", {}).get("hashes", [{}])
        yield _equal("bill of materials' sha256", hashes[0].get("content"), digest(artifact))
    inside = package.read(artifact, artifact.suffix[1:])
    yield _equal("source inside the file", known.get("source", {}).get("sha256"), inside.get("source_sha256"))


def _origin(known: dict[str, Any], path: Path) -> Iterator[Claim]:
    wanted = recipe.load(path)
    source = wanted.model.path
    yield _equal("source model", known["source"]["sha256"], digest(source) if source.exists() else f"missing: {source}")
    if said := known["source"].get("custom_sha256"):
        custom = wanted.model.custom
        yield _equal("custom layers", said, digest(custom) if custom and custom.is_file() else "missing")
    yield _equal("recipe", known["recipe_sha256"], recipe.fingerprint(wanted))
    table, then = wanted.data, known["data"]
    yield _equal("test data", then["test_sha256"], content_of(table.test, table.test_labels))
    yield _equal("calibration data", then["calibration_sha256"], content_of(table.calibration))
    if then["train_sha256"]:
        yield _equal(
            "training data", then["train_sha256"], content_of(table.train, table.train_labels, table.unlabelled)
        )


def _tools(known: dict[str, Any]) -> Iterator[Claim]:
    now = installed.closure()
    for name, version in known.get("environment", {}).get("libraries", {}).items():
        present = now.get(name, "not installed")
        if present != version:
            yield Claim(f"{name} {version}", "noted", f"{present} here: a rebuild may differ")


def _equal(what: str, said: Any, found: Any) -> Claim:
    if said is not None and said == found:
        return Claim(what, "holds")
    return Claim(what, "broken", f"said {_short(said)}, found {_short(found)}")


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}...{text[-12:]}"
