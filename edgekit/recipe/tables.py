"""The tables of edgekit.toml, but for ``[prune]``, the longest, and ``[check]``, which the report holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgekit.recipe.table import Finite, Positive, Table

TaskKind = Literal["detection", "classification", "generic", "custom"]
DataKind = Literal["coco", "imagefolder", "npz"]
Precision = Literal["float32", "float16", "int8", "int8-weights"]
Pixels = Annotated[int, Field(ge=1)]


class ModelTable(Table):
    path: Path = Field(description="the trained model: .keras, .h5, .onnx, .tflite or a SavedModel folder")
    signature: str = Field("", description="of a SavedModel; without one its default, or its only one")
    shape: dict[str, tuple[Pixels, ...]] = Field(
        {}, description="the size to run at, by input, where the file leaves one open: images = [1, 3, 224, 224]"
    )

    custom: Path | None = Field(
        None,
        description="your Python file with the classes of a Keras model's own layers; run because it is named here",
    )


class TaskTable(Table):
    kind: TaskKind = "generic"
    decoder: Literal["boxes_scores", "rows", "final", "lists", "heatmap"] = Field(
        "boxes_scores",
        description="detection: boxes_scores: two outputs, boxes (N, 4) and scores (N, C) in [0, 1]; rows: one output,"
        " the box then the scores of a row, (N, 4 + C) or (4 + C, N); final: rows of box, score and class after NMS;"
        " lists: boxes (N, 4), scores (N) and classes (N) after NMS; heatmap: a map of class scores, one of sizes",
    )
    boxes_output: str = Field("boxes", description="heatmap: the map of widths and heights")
    scores_output: str = "scores"
    classes_output: str = Field("classes", description="lists: the class numbers, from 0")
    detections_output: str = Field("detections", description="what decoders rows and final read")
    offsets_output: str = Field("", description="heatmap: the map of x and y within a place; none: its middle")
    box_format: Literal["xyxy", "yxyx", "cxcywh"] = Field("xyxy", description="corners, or centre and size")
    box_scale: Literal["pixels", "relative"] = Field("pixels", description="relative: 0 to 1 of image_size")
    image_size: tuple[Pixels, Pixels] | None = Field(None, description="height, width in pixels of the model's input")
    objectness: bool = Field(False, description="rows: a number between box and scores that multiplies the scores")
    score_logits: bool = Field(False, description="scores still need their sigmoid")
    stride: int = Field(4, ge=1, description="heatmap: pixels of the image from one place to the next")
    size_unit: Literal["pixels", "places"] = Field("pixels", description="heatmap: what widths and heights count")
    score_threshold: float = Field(0.05, ge=0, lt=1)
    nms_iou: float = Field(0.5, gt=0, le=1)
    max_detections: int = Field(100, ge=1)
    classes: tuple[str, ...] = ()
    adapter: Path | None = Field(
        None,
        description="your Python file, run only because it is named here: encode_labels() and loss() to recover after"
        " pruning; for kind custom decode() and score_samples()",
    )

    @model_validator(mode="after")
    def _whole(self) -> TaskTable:
        if self.kind == "custom" and self.adapter is None:
            raise ValueError('kind = "custom" needs adapter, your file with decode() and score_samples()')
        if self.box_scale == "relative" and self.image_size is None:
            raise ValueError('box_scale = "relative" needs image_size = [height, width] of the model\'s input')
        return self


class DataTable(Table):
    kind: DataKind
    test: Path = Field(description="labelled samples every figure is scored on")
    test_labels: Path | None = Field(None, description="coco: the annotations of test")
    calibration: Path = Field(description="unlabelled samples, disjoint from test")
    train: Path | None = Field(None, description="labelled samples for recovery after pruning, disjoint from test")
    train_labels: Path | None = None
    unlabelled: Path | None = Field(
        None, description="more images for recovery, without labels, disjoint from test: it distils on mixtures of all"
    )

    @model_validator(mode="after")
    def _labels_belong_to_coco(self) -> DataTable:
        if self.kind == "coco" and self.test_labels is None:
            raise ValueError('test_labels is needed when kind = "coco"')
        if self.kind == "coco" and self.train is not None and self.train_labels is None:
            raise ValueError('train_labels is needed when kind = "coco" and train is given')
        if self.kind != "coco" and (self.test_labels or self.train_labels):
            raise ValueError('test_labels and train_labels are for kind = "coco" only')
        return self


class PreprocessTable(Table):
    """x = (pixel - mean) * scale."""

    size: tuple[Pixels, Pixels] | None = Field(None, description="height, width in pixels; samples must have it")
    color: Literal["rgb", "bgr", "gray"] = "rgb"
    mean: tuple[Finite, ...] = Field((0.0,), min_length=1)
    scale: tuple[Finite, ...] = Field((1.0,), min_length=1)

    @model_validator(mode="after")
    def _one_value_or_one_per_channel(self) -> PreprocessTable:
        if len({len(self.mean), len(self.scale)} - {1}) > 1:
            raise ValueError(f"mean has {len(self.mean)} values and scale {len(self.scale)}; one, or one per channel")
        return self


class BudgetTable(Table):
    accuracy_drop: Positive | None = Field(1.0, description="points of the primary metric against the float model")
    latency_ms: Positive | None = Field(None, description="p50 on the target's device")
    model_mb: Positive | None = None
    memory_mb: Positive | None = Field(None, description="peak memory of the process that runs it")
    speedup: Positive | None = Field(None, description="against the float, unpruned model, same runtime and threads")


class QuantizeTable(Table):
    enabled: bool = True
    calibration_samples: int = Field(128, ge=1, description="at most this many of data.calibration")
    search: bool = Field(True, description="try mixed plans out where full int8 changes the model's answers")
    search_seconds: Positive = Field(120.0, description="for each model and format; the best plan so far is taken")
    finetune: bool = Field(
        False, description="where the search misses the accuracy budget, train on the unlabelled samples; Keras only"
    )
    finetune_epochs: int = Field(20, ge=1, description="at most; it ends where the samples it watches gain no more")
    finetune_learning_rate: Positive = Field(1e-3, description="where it helps in no epoch, a tenth, then a hundredth")
    seed: int = 0

    @model_validator(mode="after")
    def _finetuning_follows_a_search(self) -> QuantizeTable:
        if self.finetune and not (self.enabled and self.search):
            off = "search" if self.enabled else "enabled"
            raise ValueError(f"finetune = true needs {off} = true: only a search finds out that int8 misses the budget")
        return self


class ConvertTable(Table):
    parity_samples: int = Field(8, ge=1, description="samples each float file is compared with its source on")
    parity_tolerance: Positive = 1e-4


class ProfileTable(Table):
    threads: int = Field(1, ge=1, description="threads on this host; what a board uses is in its target file")
    min_samples: int = Field(50, ge=10)
    min_seconds: Positive = 0.5
    max_seconds: Positive = 10.0
    lock_clocks: bool = Field(
        False, description="boards run at their highest clocks while they measure; then as before. Needs root there"
    )
    bootstrap: int = Field(200, ge=20, description="resamples behind each accuracy interval")
    seed: int = 0

    @model_validator(mode="after")
    def _room_to_measure(self) -> ProfileTable:
        if self.max_seconds < self.min_seconds:
            raise ValueError(f"max_seconds {self.max_seconds} is less than min_seconds {self.min_seconds}")
        return self


class TargetsTable(Table):
    names: tuple[str, ...] = Field(min_length=1, description="shipped names or paths of your own .toml files")

    @model_validator(mode="after")
    def _each_once(self) -> TargetsTable:
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice")
        return self
