"""PyTorch programs: what is read of a .pt2 file without torch, what is refused in it, and the chain with torch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from project import edgekit, fashion, report_of
from small_pt2 import Program, pt2, weight, without_graph

from edgekit import source
from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source import pytorch_file
from edgekit.source.info import Input

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "onnxscript"))
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed: pip install -e '.[pytorch]'")


def node_of(wanted: Program) -> dict[str, Any]:
    found: dict[str, Any] = wanted["graph_module"]["graph"]["nodes"][0]
    return found


def test_a_program_is_read_without_torch(tmp_path: Path) -> None:
    info = source.inspect(pt2(tmp_path / "m.pt2"))
    assert info.inputs == (Input("image", (1, 3, None, 8), "float32"),)
    assert (info.format, info.parameters, info.layers) == ("pt2", 12, ("aten.relu",))
    assert "torch" not in sys.modules


def test_what_would_be_run_is_left_out(tmp_path: Path) -> None:
    pytorch_file.disarm(pt2(tmp_path / "m.pt2"), tmp_path / "safe.pt2")
    with zipfile.ZipFile(tmp_path / "safe.pt2") as archive:
        assert archive.read("net/data/sample_inputs/model.pt") == b""
        assert archive.read("net/data/weights/weight_0") == bytes(48)
        assert "net/extra/anything.py" not in archive.namelist()
        wanted = json.loads(archive.read("net/models/model.json"))
    assert wanted["guards_code"] == []
    assert node_of(wanted)["metadata"] == {}


EXPRESSIONS = [
    "__import__('os').system('true')", "(lambda: 1)()", "Symbol('s0').__class__", "open('/etc/passwd')", "[1][0]",
    "Symbol('s0') if 1 else 2", "Integer(" * 4000, "_x", "1 +",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_a_size_that_is_code(tmp_path: Path, text: str) -> None:
    def change(wanted: Program) -> None:
        wanted["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][2]["as_expr"]["expr_str"] = text

    with pytest.raises(UnsupportedError, match="no sum or product of sizes"):
        source.inspect(pt2(tmp_path / "m.pt2", change))


@pytest.mark.parametrize("name", ["torch.load", "torch.hub.load", "os.system", "torch.ops.mine.op", "builtins.eval"])
def test_a_call_of_anything_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedError, match="no operator of PyTorch's own"):
        source.inspect(pt2(tmp_path / "m.pt2", lambda wanted: node_of(wanted).update(target=name)))


@pytest.mark.parametrize("entry", [{"use_pickle": True}, {"path_name": "custom_obj_0"}, {"path_name": "../../x"}])
def test_a_pickled_weight(tmp_path: Path, entry: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="pickled weight or object"):
        source.inspect(pt2(tmp_path / "m.pt2", entry=weight(**entry)))


def test_damage_ends_in_an_expected_error(tmp_path: Path) -> None:
    whole = pt2(tmp_path / "m.pt2").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "m.pt2").write_bytes(whole[:size])
        with pytest.raises(RecipeError):
            source.inspect(tmp_path / "m.pt2")
    with pytest.raises(RecipeError, match="its program is not whole"):
        source.inspect(pt2(tmp_path / "n.pt2", without_graph))


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed here")
def test_without_torch_the_command_that_installs_it_is_said(tmp_path: Path) -> None:
    pt2(tmp_path / "m.pt2")
    for command in (("inspect", tmp_path / "m.pt2"), ("build", tmp_path / "m.pt2", "-c", fashion(tmp_path / "r"))):
        done = edgekit(*command)
        assert done.code == 3, done.err
        assert "pip install -e '.[pytorch]'" in done.err


MAKE = """
import sys, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(1, 8, 3, stride=2, padding=1), torch.nn.BatchNorm2d(8)
        self.dense = torch.nn.Linear(8, 10)
    def forward(self, image):
        x = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        return torch.softmax(self.dense(x), 1)
torch.manual_seed(0)
model = Net().eval()
batch, height = torch.export.Dim("batch", min=1, max=8), torch.export.Dim("height", min=8, max=512)
fixed = torch.export.export(model, (torch.zeros(1, 1, 28, 28),))
open_ = torch.export.export(model, (torch.zeros(2, 1, 28, 28),), dynamic_shapes={"image": {0: batch, 2: height}})
torch.export.save(fixed, sys.argv[1] + "/fixed.pt2")
torch.export.save(open_, sys.argv[1] + "/open.pt2")
"""


@needs_torch
@pytest.mark.slow
def test_the_whole_chain_from_a_program(tmp_path: Path) -> None:
    recipe = fashion(tmp_path / "r", "[prune]\nenabled = false\n[quantize]\nsearch = false\n", target="x86-64")
    subprocess.run([sys.executable, "-c", MAKE, str(recipe)], check=True, timeout=600, capture_output=True)
    found = json.loads(edgekit("inspect", recipe / "fixed.pt2", "--json").out)
    assert (found["format"], found["macs"]) == ("pt2", 14 * 14 * 8 * 9 + 8 * 10)
    asked = edgekit("build", recipe / "open.pt2", "-c", recipe, "--dry-run")
    assert asked.code == 2
    assert "--shape image=1,1,28,28" in asked.err
    done = edgekit("build", recipe / "open.pt2", "-c", recipe, "-o", recipe / "out", "--shape", "image=1,1,28,28")
    assert done.code == 0, done.err
    report = report_of(recipe / "out")
    assert report["source"]["format"] == "pt2"
    assert {variant["format"] for target in report["targets"] for variant in target["variants"]} >= {"onnx"}
