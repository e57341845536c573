"""What lies beside a shipped file, and that `edgekit verify` finds every way in which it stops being true."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from project import digests, edgekit, edit, report_of
from referencing import Registry, Resource

from edgekit.verify import verify

pytestmark = pytest.mark.slow


def cyclonedx() -> jsonschema.protocols.Validator:
    """The validator of CycloneDX 1.6, with the schemas it refers to."""
    schemas = {
        name: json.loads((files("cyclonedx.schema._res") / f"{name}.SNAPSHOT.schema.json").read_text())
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    known = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in schemas.values())
    return jsonschema.Draft7Validator(schemas["bom-1.6"], registry=known)


def bundle_of(folder: Path) -> tuple[Path, dict[str, Any]]:
    [target] = report_of(folder / "out")["targets"]
    return folder / "out" / target["bundle"], target


def artifact_of(folder: Path) -> Path:
    place, target = bundle_of(folder)
    return place / f"{target['shipped']}.tflite"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "fashion", ignore=shutil.ignore_patterns("store"))
    return tmp_path / "fashion"


def test_the_record_holds_everything_an_artifact_came_from(finished: Path) -> None:
    path = artifact_of(finished)
    record = json.loads(path.with_name(f"{path.name}.record.json").read_text())
    report = report_of(finished / "out")
    [variant] = [row for row in report["targets"][0]["variants"] if row["status"] == "shipped"]
    assert record["artifact"]["sha256"] == variant["sha256"]
    assert record["source"]["sha256"] == report["source"]["sha256"]
    assert record["recipe"]["prune"]["epochs"] == 1
    assert record["recipe"]["model"]["path"] == "model.keras"  # no folder of the user's
    assert record["seeds"] == {"prune": 0, "profile": 0}
    assert record["data"]["test_sha256"] == report["identity"]["test_sha256"]
    assert record["data"]["train_sha256"]
    assert record["environment"]["libraries"]["onnx"]
    assert record["command"].startswith("edgekit build -c fashion -o out")
    assert record["measured"]["accuracy"]["value"] == variant["accuracy"]["value"]
    assert record["measured"]["speedup"] == variant["speedup"]
    assert str(finished) not in json.dumps(record)
    for name, sha256 in record["files"].items():
        assert digests(path.parent)[name] == sha256
    plan = f"{path.name}.plan.json"
    assert plan in record["files"]
    assert json.loads((path.parent / plan).read_text())["decisions"]


def test_the_bill_of_materials_is_valid_and_complete(finished: Path) -> None:
    path = artifact_of(finished)
    bill = json.loads(path.with_name(f"{path.name}.cdx.json").read_text())
    cyclonedx().validate(bill)
    assert bill["metadata"]["component"]["hashes"][0]["content"] == digests(path.parent)[path.name]
    kinds = [part["type"] for part in bill["components"]]
    assert kinds.count("machine-learning-model") == 1  # the source
    assert kinds.count("data") == 3
    refs = {part["bom-ref"] for part in bill["components"]}
    assert {"pkg:pypi/onnx@1.23.2", "pkg:pypi/keras@3.15.1"} <= refs
    assert set(bill["dependencies"][0]["dependsOn"]) == refs
    assert len(refs) == len(bill["components"])


def test_the_card_has_the_reports_figures_and_says_what_it_cannot_know(finished: Path) -> None:
    path = artifact_of(finished)
    text = path.with_name(f"{path.name}.card.md").read_text()
    [variant] = [row for row in report_of(finished / "out")["targets"][0]["variants"] if row["status"] == "shipped"]
    assert f"{variant['accuracy']['value']:.3f} on 60 samples" in text
    assert variant["sha256"] in text
    assert "not of Raspberry Pi 4" in text
    assert "For its owner to say" in text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_labels_are_in_the_order_of_the_outputs(finished: Path) -> None:
    place, _ = bundle_of(finished)
    labels = (place / "labels.txt").read_text().splitlines()
    assert labels == json.loads((place / "model.json").read_text())["labels"]
    assert labels[0] == "T-shirt/top"


def test_an_untouched_artifact_holds_also_against_its_recipe(finished: Path) -> None:
    claims = verify(artifact_of(finished), finished)
    assert {claim.found for claim in claims} == {"holds"}
    assert {"artifact sha256", "inputs", "recipe", "test data", "training data"} <= {claim.what for claim in claims}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the file changed": (flip, "artifact sha256"),
    "labels changed": (lambda path: path.with_name("labels.txt").write_text("x\n"), "labels.txt"),
    "the plan changed": (lambda path: path.with_name(f"{path.name}.plan.json").write_text("{}"), ".plan.json"),
    "the card is gone": (lambda path: path.with_name(f"{path.name}.card.md").unlink(), ".card.md"),
    "the record is gone": (lambda path: path.with_name(f"{path.name}.record.json").unlink(), "record"),
    "another shape is described": (
        lambda path: rewrite(path.with_name(f"{path.name}.json"), lambda it: it["inputs"][0].update(shape=[1])),
        "inputs",
    ),
    "other labels are described": (
        lambda path: rewrite(path.with_name(f"{path.name}.json"), lambda it: it.update(labels=["a"])),
        "labels inside the file",
    ),
    "the record is of another source": (
        lambda path: rewrite(
            path.with_name(f"{path.name}.record.json"), lambda it: it["source"].update(sha256="00" * 32)
        ),
        "source inside the file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_finds_what_no_longer_matches(fault: str, copied: Path) -> None:
    change, named = FAULTS[fault]
    path = artifact_of(copied)
    change(path)
    broken = [claim.what for claim in verify(path) if claim.found == "broken"]
    assert any(named in what for what in broken), broken


def test_verify_finds_another_recipe_and_other_data(copied: Path) -> None:
    edit(copied, "min_seconds = 0.1", "min_seconds = 0.2")
    (copied / "data/test.npz").write_bytes((copied / "data/train.npz").read_bytes())
    flip(copied / "model.keras")
    broken = [claim.what for claim in verify(artifact_of(copied), copied) if claim.found == "broken"]
    assert broken == ["source model", "recipe", "test data"]


def test_verify_notes_other_tools(copied: Path) -> None:
    path = artifact_of(copied)
    rewrite(
        path.with_name(f"{path.name}.record.json"),
        lambda it: it["environment"]["libraries"].update({"onnx": "1.0", "lost": "2"}),
    )
    noted = {claim.what: claim.detail for claim in verify(path) if claim.found == "noted"}
    assert noted.keys() == {"onnx 1.0", "lost 2"}
    assert "not installed" in noted["lost 2"]


def test_the_command_exits_7_and_names_the_claim(copied: Path) -> None:
    path = artifact_of(copied)
    assert edgekit("verify", path, "-c", copied).code == 0
    flip(path)
    done = edgekit("verify", path)
    assert done.code == 7
    assert "artifact sha256" in done.out
    alone = copied / "alone.tflite"
    shutil.copyfile(path, alone)
    done = edgekit("verify", alone)
    assert done.code == 2
    assert "alone.tflite.json" in done.err


def test_a_rerun_writes_the_same_bundle_but_for_what_is_measured_and_when(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "fashion"))
    before = digests(bundle_of(folder)[0])
    assert edgekit("build", "-c", folder, "-o", folder / "out").code == 0
    after = digests(bundle_of(folder)[0])
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert all(name.endswith((".record.json", ".card.md")) for name in changed), changed


def test_a_locked_build_takes_its_own_lock_and_refuses_another(copied: Path) -> None:
    lock = copied / "edgekit.lock"
    shutil.copyfile(copied / "out/edgekit.lock", lock)
    assert edgekit("build", "-c", copied, "--locked", "--dry-run").code == 0
    lock.write_text(re.sub(r"^onnx==.*$", "onnx==1.0.0", lock.read_text(), flags=re.MULTILINE))
    done = edgekit("build", "-c", copied, "--locked", "--dry-run")
    assert done.code == 3
    assert "onnx: 1.23.2 installed, edgekit.lock has 1.0.0" in done.err
    assert f"pip install -r {lock}" in done.err
    lock.unlink()
    done = edgekit("build", "-c", copied, "--locked", "--dry-run")
    assert done.code == 2
    assert "edgekit lock" in done.err
