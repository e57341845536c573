"""The quantize stage: a float model and samples in, a readable plan out. It decides; ``convert`` emits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.artifact import TensorSpec
from edgekit.dataset import Preprocess, open_dataset
from edgekit.progress import Progress
from edgekit.quantize import calibrate
from edgekit.quantize.decide import decide, needs_calibration
from edgekit.runtimes import open_model

PLAN = "plan.json"


def run(
    *,
    out: Path,
    progress: Progress,
    model: Path,
    format: str,
    precision: str,
    scheme: str,
    dataset: dict[str, Any],
    samples: int,
) -> dict[str, Any]:
    """Calibrate on at most ``samples`` samples and write ``plan.json``: precisions, ranges and reasons."""
    used = 0
    ranges = None
    if needs_calibration(model, format, precision, scheme):
        data = open_dataset(
            dataset["kind"],
            dataset["path"],
            None,
            Preprocess.from_json(dataset["preprocess"]),
            labelled=False,
        )
        used = min(samples, len(data))
        session = open_model(model, format)
        specs = tuple(TensorSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in session.inputs)

        def counted() -> Iterator[dict[str, Any]]:
            for number, sample in enumerate(data.batches(specs, used)):
                if number % 10 == 0:
                    progress(0.9 * number / used, f"calibrating on sample {number + 1} of {used}")
                yield sample

        ranges = calibrate.ranges(model, format, counted())
    plan = decide(model, format, precision, scheme, ranges, samples=used)
    (out / PLAN).write_text(plan.to_json())
    return {"counts": plan.counts(), "samples": used, "notes": list(plan.notes)}
