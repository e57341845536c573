"""The steps of a build as data: what each calls and reads, and the rows and groups that are judged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
    build, and goes on from there. ``parallel``: it is told how many ``jobs`` may run at once, which changes nothing
    in its result. ``custom``: the user's file with classes of a Keras model's layers, run first.
    ``after``: steps that are over before this one starts; where all of them failed, it is left out.
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
    parallel: bool = False
    device: str = ""
    custom: Path | None = None
    after: tuple[str, ...] = ()

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

    def run_first(self, custom: Path | None) -> None:
        """Let every step that loads a Keras model run the user's file before."""
        for name, step in self.steps.items():
            if custom and "keras" in step.libraries:
                self.steps[name] = replace(step, custom=custom)


KERAS = ("tensorflow-cpu", "tensorflow", "keras", "numpy")
TFLITE = ("ai-edge-litert", "ai-edge-quantizer", "numpy")
ONNX = ("onnx", "onnxruntime", "onnxslim", "numpy")
PYTORCH = ("torch", "onnxscript", *ONNX)
PYTORCH_STEP = ("edgekit.convert.pytorch:run", PYTORCH)  # a .pt2 file becomes model.onnx before anything else
FORMAT_LIBRARIES = {"tflite": TFLITE, "onnx": ONNX}
# Sources that are a float graph themselves, and what reads them.
READ_BY = {
    "onnx": ("edgekit.convert.onnx_source:run", ONNX),
    "tflite": ("edgekit.convert.tflite_source:run", TFLITE),
}
# What gives a model's open sizes their numbers, by the format of its file.
BOUND_BY = {
    "onnx": ("edgekit.convert.bind_onnx:run", ONNX),
    "tflite": ("edgekit.convert.bind_tflite:run", TFLITE),
    "keras": ("edgekit.convert.bind_tensorflow:run", KERAS),
    "h5": ("edgekit.convert.bind_tensorflow:run", KERAS),
    "saved_model": ("edgekit.convert.bind_tensorflow:saved_model", KERAS),
}
SHAPE = "shape"  # the step that does
BOUND_FILES = {"onnx": "model.onnx", "tflite": "model.tflite", "saved_model": "saved_model"}  # else model.keras
# What makes a file of another format of such a float graph.
CONVERTED_BY = {
    ("onnx", "tflite"): ("edgekit.convert.onnx_tflite:run", (*TFLITE, *ONNX, "onnx2tf", "sng4onnx")),
}
NOT_MADE = {
    "onnx": ("tflite", "no TFLite from an ONNX model that is quantized already; give the float model."),
    "tflite": ("onnx", "no ONNX from a TFLite model; give the model it was converted from."),
}
