"""The steps of a build as data: what each calls and reads, and the rows and groups that are judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.target import Output, Target


@dataclass(frozen=True)
class Ref:
    """A file or folder that another step writes."""

    step: str
    name: str


@dataclass(frozen=True)
class File:
    """A file or folder of the user, known by its content."""

    path: Path


@dataclass(frozen=True)
class Step:
    """One call in a child process. ``arguments`` may hold Ref and File anywhere.

    ``tolerant``: list items whose Ref failed are left out instead of failing this step too.
    ``machine_bound``: the result is this CPU's own. ``alone``: nothing else of the build may run meanwhile.
    ``preliminary``: another step decides whether this result is used. ``device``: the address of the device that does
    the work; this host only waits for it. ``resumable``: it is given a folder ``work`` that outlives a killed
    build, and goes on from there.
    """

    id: str
    stage: str
    label: str
    function: str
    arguments: dict[str, Any]
    libraries: tuple[str, ...] = ()
    tolerant: bool = False
    machine_bound: bool = False
    alone: bool = False
    preliminary: bool = False
    resumable: bool = False
    device: str = ""

    @property
    def busy_with(self) -> str:
        """The device that nothing else may use meanwhile; its address without options."""
        return self.device.partition("?")[0]


@dataclass(frozen=True)
class Row:
    """One variant of one target: which steps make, score and time it."""

    name: str
    done: tuple[str, ...]
    format: str
    precision: str
    emit: str
    score: str
    pruned: bool


@dataclass(frozen=True)
class Group:
    """A target with one artifact format: what one verdict is about. ``rows[0]`` is the baseline."""

    target: Target
    format: str
    rows: tuple[Row, ...]
    latency: str | None
    primary: Output
    device: str | None = None


@dataclass(frozen=True)
class Refusal:
    """A target that takes nothing that can be made of the model."""

    target: Target
    why: str


@dataclass
class BuildPlan:
    """All steps in an order in which each finds its inputs, the groups to judge, and the targets that get nothing."""

    steps: dict[str, Step] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, step: Step) -> str:
        self.steps.setdefault(step.id, step)
        return step.id


KERAS = ("tensorflow-cpu", "tensorflow", "keras", "numpy")
TFLITE = ("ai-edge-litert", "ai-edge-quantizer", "numpy")
ONNX = ("onnx", "onnxruntime", "onnxslim", "numpy")
FORMAT_LIBRARIES = {"tflite": TFLITE, "onnx": ONNX}
# Sources that are a float graph themselves: what reads them, and the format that is not made of them.
READ_BY = {
    "onnx": ("edgekit.convert.onnx_source:run", ONNX),
    "tflite": ("edgekit.convert.tflite_source:run", TFLITE),
}
NOT_MADE = {
    "onnx": ("tflite", "no TFLite from an ONNX model; give the Keras model or a SavedModel."),
    "tflite": ("onnx", "no ONNX from a TFLite model; give the model it was converted from."),
}
