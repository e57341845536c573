"""The diagnosis as data: figures per layer, named causes in order of blame, the samples that suffer most."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
Harm = Literal["fails", "accuracy", "latency"]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Layer(Model):
    """One tensor of the float model against its counterpart in the artifact, over all samples."""

    tensor: str = Field(description="name in the float file")
    counterpart: str = Field(description="name in the artifact")
    op: str = Field(description="kind of the op that makes it; empty for an input of the model")
    sqnr_db: float | None = Field(description="signal to quantization noise; null: both are equal, or it does not run")
    cosine: float | None = Field(description="null where one of the two is always 0")
    low: float = Field(description="smallest value on the samples, in the float model")
    high: float
    scale: float | None = Field(default=None, description="of the artifact's int8 form; null where it is float")
    zero_point: int | None = None
    range_low: float | None = Field(default=None, description="smallest value the artifact can hold")
    range_high: float | None = None
    range_used: float | None = Field(default=None, description="share of that range that the samples reach, 0 to 1")
    clipped_low: float | None = Field(default=None, description="share of the float values below that range")
    clipped_high: float | None = None
    unevenness: float | None = Field(
        default=None, description="largest channel's magnitude / geometric mean of all; null without channels"
    )
    output_error: float | None = Field(
        default=None, description="relative error at the outputs with this tensor alone in int8; null: not tried"
    )
    weights_output_error: float | None = Field(
        default=None, description="the same, with the artifact's weights in this op alone"
    )

    @property
    def harm(self) -> tuple[float, float]:
        """Return what to rank layers by: the error at the outputs, then the layer's own noise."""
        return max(self.output_error or 0.0, self.weights_output_error or 0.0), -(self.sqnr_db or 1e9)


class Finding(Model):
    """One named cause. ``blame``: the relative error at the outputs that ``cure`` takes away (harm accuracy),
    the share of all activations that is converted back and forth (harm latency), 1 where nothing runs."""

    cause: str
    harm: Harm
    blame: float = Field(ge=0, le=1)
    where: list[str] = Field(description="tensors or ops, worst first")
    proof: str = Field(description="the figures, in words")
    cure: str


class OutputError(Model):
    """How far one output, or one part of a concatenated output, is from the float model's."""

    output: str
    relative_error: float | None = Field(
        description="norm of the difference / norm of the float output, over all samples; null: NaN or infinity"
    )
    max_error: float | None


class WorstSample(Model):
    sample: str
    relative_error: float | None = Field(description="of the worst output part, on this sample alone")
    lost: int | None = Field(
        default=None, description="labels that the float model finds and the artifact does not; null: not labelled"
    )


class ClassAgreement(Model):
    """How far the artifact decides as the float model does, where the float model decides for this class."""

    name: str
    count: int = Field(description="classification: samples; detection: boxes")
    agreement: float | None = Field(
        description="share that the artifact gives too (detection: IoU of 0.5 or more); null: none"
    )
    float_metric: float | None = Field(default=None, description="of this class, against the labels; null: no labels")
    artifact_metric: float | None = None

    @property
    def loss(self) -> tuple[float, float]:
        """Return what this class lost, to rank by: in the metric, then in agreement."""
        lost = (self.float_metric or 0.0) - (self.artifact_metric or 0.0)
        return lost, 1.0 - (1.0 if self.agreement is None else self.agreement)


class Diagnosis(Model):
    schema_version: int = SCHEMA_VERSION
    format: str
    samples: int
    findings: list[Finding]
    layers: list[Layer]
    unmatched: list[str] = Field(description="tensors of the float model without a counterpart in the artifact")
    outputs: list[OutputError]
    worst_samples: list[WorstSample]
    classes: list[ClassAgreement]
    metric: str = Field(default="", description="name of the task's metric; empty where the samples have no labels")
    float_value: float | None = Field(default=None, description="of the float model on these samples, 0 to 1")
    artifact_value: float | None = None
    probes: int = Field(description="how many single changes were tried at the outputs")
    complete: bool = Field(description="false where the time was up before every tensor was tried")
