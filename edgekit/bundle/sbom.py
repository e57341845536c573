"""A CycloneDX 1.6 bill of materials of one artifact: the source model, the data, and the libraries that made it.

https://cyclonedx.org/docs/1.6/json/ . It holds no time and no random number: the same artifact has the same bytes.
"""

from __future__ import annotations

import uuid
from typing import Any

from edgekit import __version__
from edgekit.bundle.record import Origin
from edgekit.report.schema import Variant

SUFFIX = ".cdx.json"
_NAMESPACE = uuid.UUID("6f1d6a5e-2c0b-5f7e-9d5b-0c7a4b1f3e21")  # edgekit's own, fixed
_DATA = {"test_sha256": "test samples", "calibration_sha256": "calibration samples", "train_sha256": "training samples"}


def sbom(origin: Origin, variant: Variant, file: str) -> dict[str, Any]:
    """Return the bill as JSON-able data."""
    report = origin.report
    artifact = _model(file, variant.sha256, "artifact", f"{variant.precision} {variant.format}")
    source = _model(report.source.path, report.source.sha256, "source", f"{report.source.format}, as it came in")
    data = [
        _data(words, getattr(report.identity, key)) for key, words in _DATA.items() if getattr(report.identity, key)
    ]
    libraries = [_library(name, version) for name, version in origin.libraries.items()]
    tool = {"type": "application", "bom-ref": "edgekit", "name": "edgekit", "version": __version__}
    parts = [source, *data, *libraries]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, variant.sha256 + repr(sorted(origin.libraries.items())))}",
        "version": 1,
        "metadata": {"tools": {"components": [tool]}, "component": artifact},
        "components": parts,
        "dependencies": [
            {"ref": "artifact", "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }


def _model(name: str, sha256: str, ref: str, description: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": name,
        "description": description,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }


def _data(name: str, sha256: str) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"data:{name.replace(' ', '-')}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }


def _library(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "scope": "excluded"}
