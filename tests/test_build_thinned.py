"""Builds with sparsity and low rank: smaller files, the same bits, and nothing of it without asking."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import SIZES, edgekit, fashion, report_of

from edgekit import build as builder
from edgekit import keras_io
from edgekit.convert import finish, tflite_sparse
from edgekit.convert.finish import reference_of
from edgekit.prune.keras.functional import operations, weight_array

pytestmark = pytest.mark.slow

THINNED = """
[prune]
keep_macs = 1  # zeros alone: what they do to the files can be seen
sparsity = 0.75
low_rank = true
low_rank_energy = 0.99
epochs = 1
control = false
[quantize]
search = false
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fashion(tmp_path_factory.mktemp("thinned") / "fashion", THINNED)
    done = edgekit("build", "-c", folder, "-o", folder / "out", timeout_s=400)
    assert done.code == 0, done.err
    return folder


def _rows(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    targets = report_of(folder / "out")["targets"]
    return {(row["format"], row["name"]): row for target in targets for row in target["variants"]}


def test_sparse_files_are_smaller_and_every_file_tells_its_gz_size(built: Path) -> None:
    found = _rows(built)
    assert len(found) == 4
    for (format, name), row in found.items():
        content = (built / "out" / row["file"]).read_bytes()
        assert row["gz_bytes"] == len(gzip.compress(content, mtime=0))
        assert (row["sparse"] is not None) == (format == "tflite" and name.startswith("pruned"))
    for name in ("float32", "int8"):
        assert found["tflite", f"pruned-{name}"]["gz_bytes"] < 0.6 * found["tflite", name]["gz_bytes"]
    sparse = found["tflite", "pruned-float32"]
    assert sparse["sparse"]["weights"] >= 5
    assert sparse["size_bytes"] < 0.6 * sparse["sparse"]["dense_bytes"]
    int8 = found["tflite", "pruned-int8"]
    assert int8["size_bytes"] < int8["sparse"]["dense_bytes"]


def test_the_sparse_file_computes_the_bits_of_the_dense_one(built: Path, tmp_path: Path) -> None:
    with np.load(built / "data/test.npz") as stored:
        pixels = stored["x"][:8].astype(np.float32).reshape(8, 28, 28, 1) / 255
    for name in ("pruned-float32", "pruned-int8"):
        row = _rows(built)["tflite", name]
        sparse = built / "out" / row["file"]
        dense = tmp_path / "dense.tflite"
        dense.write_bytes(tflite_sparse.decode(sparse.read_bytes()))
        assert dense.stat().st_size > sparse.stat().st_size
        inputs = {_input(sparse): pixels}
        (one,), (other,) = (reference_of(path, "tflite", inputs).values() for path in (sparse, dense))
        assert one.tobytes() == other.tobytes()


def _input(path: Path) -> str:
    return str(finish.open_model(path, "tflite").inputs[0]["name"])


def test_recovery_keeps_the_zeros_and_the_pairs(built: Path) -> None:
    prune = report_of(built / "out")["prune"]
    assert prune["recovery_epochs"] == 1
    assert prune["sparsity"]["zeros"] == pytest.approx(0.75 * prune["sparsity"]["of"], abs=prune["sparsity"]["layers"])
    done = edgekit("prune", "-c", built, "-o", built / "out")
    assert done.code == 0, done.err
    layers = operations(keras_io.load(built / "out/prune/pruned.keras"))
    zeros = sum(int((weight_array(layer.kernel) == 0).sum()) for layer in layers.values() if hasattr(layer, "kernel"))
    assert zeros >= prune["sparsity"]["zeros"]
    kept = {layer["layer"] for layer in prune["low_rank"]["layers"] if layer["kept"]}
    assert {key.removesuffix("_low_rank") for key in layers if key.endswith("_low_rank")} == kept
    for layer in prune["low_rank"]["layers"]:
        assert layer["why"]
        if layer["kept"]:
            assert layer["ms_after"] <= 0.9 * layer["ms_before"]
            assert layer["macs_after"] < layer["macs_before"]
    saved = sum(item["macs_before"] - item["macs_after"] for item in prune["low_rank"]["layers"] if item["kept"])
    assert prune["macs_after"] == prune["macs_before"] - saved


def test_the_report_says_what_was_done(built: Path) -> None:
    assert not [line for line in report_of(built / "out")["warnings"] if "channels" in line]  # none were cut
    page, text = ((built / "out" / f"report.{kind}").read_text() for kind in ("html", "md"))
    for words in ("75% of the weights", "layers became two thinner ones", "as .gz"):
        assert words in page
        assert words in text
    assert "with its zeros" in page


def test_every_format_tells_its_gz_size_and_tflite_leaves_the_zeros_out(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", THINNED, target="x86-64")
    steps = builder.prepare(folder / "edgekit.toml", {}, []).plan.steps
    emitted = {name: step.arguments for name, step in steps.items() if name.startswith("emit-")}
    assert len(emitted) == 8
    for name, arguments in emitted.items():
        assert arguments["gz"]
        assert arguments["sparse"] == ("tflite" in name and "pruned" in name)


def test_an_ordinary_build_does_nothing_of_it(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", "[prune]\nkeep_macs = 0.5\n")
    steps = builder.prepare(folder / "edgekit.toml", {}, []).plan.steps
    emitted = [step.arguments for name, step in steps.items() if name.startswith("emit-")]
    assert emitted
    assert not any({"sparse", "gz"} & set(arguments) for arguments in emitted)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ("[prune]\nkeep_macs = 1\n", "keep_macs = 1 cuts nothing"),
        ("[prune]\nsparsity = 1.5\n", "prune.sparsity"),
        ("[prune]\nsparsity = 0.5\n[quantize]\nfinetune = true\n", "would train the zeros"),
    ],
)
def test_contradictions_are_said_before_anything_is_built(tables: str, words: str, tmp_path: Path) -> None:
    done = edgekit("build", "-c", fashion(tmp_path / "fashion", tables), "--dry-run")
    assert done.code == 2
    assert words in done.err


def test_zeros_are_made_where_no_channel_can_be_cut(tmp_path: Path) -> None:
    alone = "[prune]\nmin_channels = 4096\nsparsity = 0.75\nepochs = 1\ncost = 'macs'\n[quantize]\nenabled = false\n"
    folder = fashion(tmp_path / "fashion", alone)
    done = edgekit("prune", "-c", folder, "-o", folder / "out", timeout_s=400)
    assert done.code == 0, done.err
    assert "note: No channel of this model can be cut" in " ".join(done.err.split())
    facts = json.loads((folder / "out/prune/pruned.json").read_text())["facts"]
    assert facts["macs_after"] == facts["macs_before"]
    assert facts["training_samples"] == SIZES["train"]
    assert facts["sparsity"]["zeros"] == pytest.approx(0.75 * facts["sparsity"]["of"], abs=facts["sparsity"]["layers"])
