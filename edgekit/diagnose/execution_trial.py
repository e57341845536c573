"""Run the artifact once, in a process of its own: a delegate that refuses a file may end the process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import arrays, worker
from edgekit.diagnose.compare_layers import input_forms
from edgekit.diagnose.execute import Sample, as_input, open_runner
from edgekit.diagnose.quantized_file import QuantizedFile, read_quantized
from edgekit.errors import StageError
from edgekit.progress import Progress
from edgekit.runtimes import open_model

INPUTS = "inputs.npz"
_NODE, _TENSOR = re.compile(r"[Nn]ode (?:number |#)(\d+)"), re.compile(r"[Tt]ensor (\d+)")
# What LiteRT's kernels check when a file is loaded, and what mends it.
_CURES = {
    "no_integer_overflow_from_quantization": "A bias is beyond int32 in steps of its input and weight scales: a "
    "channel with weights near 0. Prune that channel, or keep the op weight-only.",
    "SIGABRT": "A kernel's own check ended the process before it could name the op: mend the next cause, whose range "
    "or scale no kernel expects, or keep that op in float.",
    "output_multiplier_exponent": "The output's range is far smaller than the input's. Let the input's range begin at "
    "-3.1 (hard-swish is 0 below -3), or keep the op in float.",
}


def run(
    *, out: Path, progress: Progress, artifact: Path, format: str, inputs: list[dict[str, Any]], as_deployed: bool
) -> dict[str, Any]:
    """Run once on ``out/inputs.npz`` as targets do, or on reference kernels; raises StageError if it is refused.

    ``inputs`` describes the float model's, whose sample it is.
    """
    with np.load(out / INPUTS, allow_pickle=False) as stored:
        sample = {name: stored[name] for name in stored.files}
    forms = input_forms(read_quantized(artifact, format))
    if as_deployed:
        session = open_model(artifact, format)
        made = as_input(sample, inputs, session.inputs, forms)
        try:
            session.run([made[spec["name"]] for spec in session.inputs])
        except Exception as error:  # onnxruntime's own errors share no base class
            raise StageError(f"{session.runtime} {session.version} cannot run {artifact.name}: {error}") from error
    else:
        runner = open_runner(artifact, format)
        runner.run(as_input(sample, inputs, runner.inputs, forms))
    progress(1.0, "ran once")
    return {}


def refusal(
    artifact: Path, format: str, sample: Sample, inputs: list[dict[str, Any]], out: Path, *, as_deployed: bool
) -> str:
    """Return what happened when the artifact was run in a child; empty where it ran."""
    folder = out / ("as_deployed" if as_deployed else "reference")
    folder.mkdir(exist_ok=True)
    arrays.save(folder / INPUTS, sample)
    arguments = {"artifact": artifact, "format": format, "inputs": inputs, "as_deployed": as_deployed}
    try:
        worker.run("edgekit.diagnose.execution_trial:run", arguments, folder, _silent, label=f"running {artifact.name}")
    except StageError as error:
        return error.message
    return ""


def refused_parts(words: str, file: QuantizedFile) -> list[str]:
    """Return the names of the ops and tensors that LiteRT's refusal gives by number."""
    ops = [file.graph.ops[n].name for n in map(int, _NODE.findall(words)) if n < len(file.graph.ops)]
    tensors = [file.tensors[n] for n in map(int, _TENSOR.findall(words)) if n < len(file.tensors)]
    return list(dict.fromkeys([*ops, *tensors]))


def cure_of_refusal(words: str, *, runs_plainly: bool) -> str:
    """Return what mends a refusal, in the runtime's own words if they are known."""
    known = next((cure for sign, cure in _CURES.items() if sign in words), "")
    if known:
        return known
    if runs_plainly:
        return "Keep what is named in float, or run without the delegate (XNNPACK) or graph optimization."
    return "Keep what is named in float; edgekit build checks every file it writes by running it."


def _silent(done: float, text: str) -> None:
    """Tell nothing: the trial takes a second."""
