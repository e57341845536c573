"""One way to run the diagnosis in a test: on a dataset file, with a generic task unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from faults import Sample

from edgekit.diagnose.run import run
from edgekit.diagnose.schema import Diagnosis

PREPROCESS = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}


def diagnose(
    float_model: Path, artifact: Path, samples: list[Sample], folder: Path, *, seconds: float = 60.0,
    task: dict[str, Any] | None = None, classes: list[str] | None = None, labels: list[int] | None = None,
) -> Diagnosis:  # fmt: skip
    """Diagnose as a child process would, and read the result back through its schema."""
    data = folder / "samples.npz"
    arrays = {name: np.concatenate([s[name] for s in samples]) for name in samples[0]}
    np.savez(data, allow_pickle=False, **arrays, **({} if labels is None else {"y": np.array(labels)}))
    dataset = {"kind": "npz", "path": data, "labels": None, "classes": classes or [], "preprocess": PREPROCESS}
    found = run(
        out=folder, progress=lambda done, text: None, float_model=float_model, artifact=artifact,
        format=artifact.suffix[1:], dataset=dataset, task=task or {"kind": "generic"}, samples=len(samples),
        seconds=seconds,
    )  # fmt: skip
    return Diagnosis.model_validate(found)
