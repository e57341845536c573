"""The table ``[prune]`` of edgekit.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgekit.recipe.table import Positive, Table

_MANY_EPOCHS = 24  # moving gained about 2 points in 40 epochs of 245 photographs, and lost 0.9 in 10 of 150 scenes


class PruneTable(Table):
    enabled: bool = True
    keep_macs: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        "auto",
        description='share of the multiply-accumulates that stays; "auto": the least that keeps budget.accuracy_drop,'
        " or where budget.speedup or latency_ms is set the most that is predicted to reach it",
    )
    minutes: Positive = Field(20.0, description='of training, where keep_macs is "auto"; the best so far is taken')
    importance: Literal["auto", "taylor", "measured", "reconstruction", "l2", "bn", "random"] = Field(
        "auto",
        description='how channels are ranked; "auto": taylor for a Keras model, reconstruction for an ONNX one;'
        " measured: taylor, with each layer weighed by what cutting it is measured to cost at the outputs",
    )
    cost: Literal["latency", "macs", "parameters", "uniform"] = Field(
        "latency", description="what a channel is to save the most of; latency: measured in the targets' runtimes"
    )
    round_to: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description='channel counts become multiples of this; "auto": of what is measured to save time, or of 16',
    )
    min_channels: int = Field(16, ge=1)
    max_layer_cut: float = Field(0.8, gt=0, lt=1, description="largest share of one layer's channels removed")
    limits: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        {}, description='the same for some layers, by name or pattern: limits = {"stem*" = 0.25}'
    )
    protect: tuple[str, ...] = Field((), description='layers never narrowed, by name or pattern: protect = ["head*"]')
    refit: bool | Literal["auto"] = Field(
        "auto",
        description="solve the layers behind a cut for least squared error; needs no labels."
        ' "auto": where nothing is trained afterwards: what is trained ends better without',
    )
    low_rank: bool = Field(
        False, description="make two thinner layers of one where its outputs allow it and LiteRT is faster on this host"
    )
    low_rank_energy: float = Field(0.98, gt=0, lt=1, description="share of a layer's output variance that must stay")
    sparsity: Annotated[float, Field(gt=0, lt=1)] | Literal["2:4"] | None = Field(
        None, description='share of the weights that become zero, or "2:4": a smaller file, not a faster one'
    )
    epochs: int = Field(12, ge=0, description="recovery epochs; 0 leaves the cut network as it is")
    batch: int = Field(8, ge=1)
    learning_rate: Positive = Field(
        1.5e-3,
        description="of AdamW, after a warm-up, then down one cosine; small convolutional networks took 3e-3 better, a"
        " transformer needs 3e-4",
    )
    distil_weight: float = Field(10.0, ge=0, description="weight of the distillation from the unpruned model")
    feature_weight: float = Field(
        0.0, ge=0, description="weight of the distillation from the unpruned model's features, at channels that stayed"
    )
    ema: bool = False
    mixed_share: float = Field(
        0.5, ge=0, le=1, description="steps on shifted, mixed and relit images, also of data.unlabelled, without labels"
    )
    moved_share: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        "auto",
        description="of the other steps: images and labels shift, zoom and are relit;"
        f' "auto": all from {_MANY_EPOCHS} epochs on, where images would be learned by heart, else none',
    )
    symmetric: bool = Field(False, description="what is mirrored left to right keeps its label: some are moved so too")
    patience: int = Field(
        0,
        ge=0,
        description="epochs without a better one, by a sixth of the samples, before recovery ends; 0: it never does",
    )
    seed: int = 0
    seeds: int = Field(1, ge=1, description="how often to recover, each with its own seed: the spread of the accuracy")
    control: bool = Field(
        True,
        description="train the unpruned model as long, where labels are used, to compare with; a search always does",
    )
    controls: int | None = Field(
        None,
        ge=1,
        description="how many of the seeds have a control of their own; each takes longer to train than what is cut."
        " All of them unless fewer are named: then the first control stands for those that are missing",
    )
    teacher: Path | None = Field(None, description="a model to learn from instead of the unpruned one; .keras or .h5")
    student: Path | None = Field(None, description="a smaller model of yours to teach, instead of cutting this one")
    checkpoint: Path | None = Field(
        None, description="a folder an earlier `edgekit prune` wrote for this model: taken as it is, nothing is trained"
    )

    @property
    def searches(self) -> bool:
        """Say whether the amount is searched for: a student is taught as it is, a checkpoint taken."""
        return self.keep_macs == "auto" and not self.student and not self.checkpoint

    @property
    def steps_moved(self) -> float:
        """Return ``moved_share`` as a number."""
        return float(self.epochs >= _MANY_EPOCHS) if self.moved_share == "auto" else self.moved_share

    @model_validator(mode="after")
    def _one_way(self) -> PruneTable:
        if self.student and self.checkpoint:
            raise ValueError("student trains a network of yours and checkpoint takes a finished one; leave one out")
        if self.keep_macs == 1 and not (self.low_rank or self.sparsity):
            raise ValueError("keep_macs = 1 cuts nothing; set enabled = false, or low_rank or sparsity too")
        if self.controls and not self.control:
            raise ValueError("controls says how many and control = false none; leave one of the two out")
        if self.controls and self.controls > self.seeds:
            raise ValueError(f"controls = {self.controls} is more than seeds = {self.seeds}: each has one at most")
        if self.student and (self.keep_macs != "auto" or self.low_rank or self.sparsity):
            raise ValueError("a student is taught as it is: leave out keep_macs, low_rank and sparsity")
        return self
