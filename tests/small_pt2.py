"""A PyTorch program, relu(image), written without torch, with everything in it that torch would run when loading it."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Program = dict[str, Any]


def program() -> Program:
    """What torch.export.save writes of relu(image), with an open height."""
    sizes = [{"as_int": 1}, {"as_int": 3}, {"as_expr": {"expr_str": "Symbol('s0', positive=True)", "hint": None}}]
    node = {"target": "torch.ops.aten.relu.default", "inputs": [], "outputs": [], "metadata": {"stack_trace": "x"}}
    values = {"image": {"dtype": 7, "sizes": [*sizes, {"as_int": 8}]}}
    specs = [{"parameter": {"arg": {"name": "w"}}}, {"user_input": {"arg": {"as_tensor": {"name": "image"}}}}]
    graph = {"inputs": [], "outputs": [], "nodes": [node], "tensor_values": values}
    module = {"graph": graph, "signature": {"input_specs": specs, "output_specs": []}}
    return {"graph_module": module, "guards_code": ["__import__('os').getpid()"], "schema_version": {"major": 8}}


def without_graph(wanted: Program) -> None:
    del wanted["graph_module"]


def weight(**more: Any) -> dict[str, Any]:
    return {
        "path_name": "weight_0",
        "use_pickle": False,
        "tensor_meta": {"sizes": [{"as_int": 3}, {"as_int": 4}]},
        **more,
    }


def pt2(path: Path, change: Callable[[Program], None] = lambda _: None, entry: dict[str, Any] | None = None) -> Path:
    wanted = program()
    change(wanted)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/models/model.json", json.dumps(wanted))
        archive.writestr("net/data/weights/model_weights_config.json", json.dumps({"config": {"w": entry or weight()}}))
        archive.writestr("net/data/weights/weight_0", bytes(48))
        archive.writestr("net/data/sample_inputs/model.pt", pickle.dumps(Path("/executed")))
        archive.writestr("net/extra/anything.py", "raise SystemExit")
    return path
