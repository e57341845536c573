"""The report as data: what ``report.json`` holds, and the source of its JSON Schema.

Units are in the names: ms, ns, bytes, points (hundredths of the metric: mAP 0.50 -> 0.49 is 1 point).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from edgekit.diagnose.schema import Diagnosis, Layer
from edgekit.report.measured import Accuracy as Accuracy
from edgekit.report.measured import DeviceRun as DeviceRun
from edgekit.report.measured import DeviceState as DeviceState
from edgekit.report.measured import Latency as Latency
from edgekit.report.measured import Model as Model
from edgekit.report.measured import OpTime as OpTime
from edgekit.report.measured import Place as Place
from edgekit.report.planned import PlannedOp as PlannedOp
from edgekit.report.pruned import CurvePoint as CurvePoint
from edgekit.report.pruned import Gap as Gap
from edgekit.report.pruned import PruneSummary as PruneSummary
from edgekit.report.pruned import Tried as Tried
from edgekit.report.sampled import Disagreement as Disagreement
from edgekit.report.sampled import Disagreements as Disagreements
from edgekit.report.sampled import SeenBox as SeenBox
from edgekit.report.thinned import LowRankLayer as LowRankLayer
from edgekit.report.thinned import LowRankSummary as LowRankSummary
from edgekit.report.thinned import SparseFile as SparseFile
from edgekit.report.thinned import SparsitySummary as SparsitySummary

SCHEMA_VERSION = 1

Status = Literal["baseline", "shipped", "kept", "dropped", "unscored"]
Outcome = Literal["passed", "missed", "failed", "unscored"]


def _two_sided(value: Any) -> tuple[float, float] | None:
    """Read a number, [worse, better] or false."""
    if value is None or value is False:
        return None
    ends = value if isinstance(value, list | tuple) else (value, value)
    if len(ends) != 2 or not all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) and end >= 0 for end in ends
    ):
        raise ValueError("write a number, [worse, better], or false to leave it uncompared")
    return float(ends[0]), float(ends[1])


Tolerance = Annotated[
    tuple[float, float] | None,
    BeforeValidator(_two_sided),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 2},
                {"enum": [False, None]},
            ]
        }
    ),
]
Compared = Literal["accuracy_points", "size_percent", "speedup_percent", "latency_percent", "memory_percent"]


class CheckTable(Model):
    """How far a figure of what ships may be from the baseline run's, to either side.

    Each is one number for both sides, ``[worse, better]``, or false where it is not to be compared.
    """

    accuracy_points: Tolerance = Field((0.5, 0.5), description="points of the primary metric")
    size_percent: Tolerance = (2.0, 2.0)
    speedup_percent: Tolerance = Field((15.0, 15.0), description="of the ratio to the float model, same run")
    latency_percent: Tolerance = Field(None, description="of the p50; only means something on a machine left alone")
    memory_percent: Tolerance = Field((20.0, 20.0), description="of the peak memory")
    targets: dict[str, dict[Compared, Tolerance]] = Field({}, description="the same keys for one target alone")

    def of(self, metric: Compared, target: str) -> tuple[float, float] | None:
        """Return (worse, better) for one target; None where it is not compared."""
        own = self.targets.get(target.partition(" (")[0], {})
        tolerance: tuple[float, float] | None = own[metric] if metric in own else getattr(self, metric)
        return tolerance


class TriedPlan(Model):
    """One plan that was emitted and run while searching."""

    what: str = Field(description="what is special about it, e.g. '4 units float'")
    float_ops: int = Field(description="ops that stay float")
    loss: float | None = Field(description="1 minus the agreement with the float model; null: it does not run")
    size_bytes: int
    refusal: str = Field(default="", description="why the runtime refuses it, if so")
    fastest_ms: float = Field(default=0.0, description="its fastest call on this host while it was tried; a hint only")


class SensitiveUnit(Model):
    """What a weighted op and its followers do to the outputs when they alone are int8."""

    unit: str = Field(description="name of its first tensor")
    kind: str = Field(description="kind of its first op")
    loss: float | None = Field(
        None,
        description="1 minus the agreement with the float model; null: not needed",
    )
    error: float | None = Field(description="noise-to-signal power at the worst output; null: it does not run")
    gain_ms: float | None = Field(
        default=None, description="fastest call saved on this host, borders included; null: not needed; a hint only"
    )


class FinetuneSummary(Model):
    """What quantization-aware distillation came to, where the recipe asked for it."""

    needed: bool = Field(description="false: every search reached its aim, nothing was trained")
    kept: bool = Field(description="whether the plan below is one of the fine-tuned model")
    samples: int = Field(default=0, description="unlabelled samples it learned from; none of them judged a plan")
    watched_samples: int = Field(default=0, description="samples that told when to stop")
    epochs: int = Field(default=0, description="epochs that were run")
    best_epoch: int = Field(default=0, description="the one that was taken; 0: none was closer to the float model")
    distance_before: float | None = Field(default=None, description="of the rounded outputs, 0 for equal answers")
    distance_after: float | None = None
    loss_before: float | None = Field(default=None, description="of the best plan of the model as it came")
    loss_after: float | None = Field(default=None, description="of the best plan of the fine-tuned model")


class SearchSummary(Model):
    """How the precision of every op was found, on calibration samples that set no range."""

    held_samples: int = Field(description="samples that judged the plans")
    target_loss: float = Field(description="the loss of agreement that was good enough to stop at")
    loss: float | None = Field(description="what the chosen plan loses in agreement with the float model, 0 to 1")
    reached: bool
    complete: bool = Field(description="false: time ran out, and this is the best so far")
    log: list[TriedPlan]
    sensitivity: list[SensitiveUnit] = Field(default=[], description="the most sensitive first; empty: not needed")
    finetune: FinetuneSummary | None = Field(default=None, description="null where the recipe did not ask for it")


class Variant(Model):
    """One row: the model after some of the steps, as one artifact for one target."""

    name: str = Field(description="float32 | pruned-float32 | int8 | pruned-int8 | ...")
    steps: list[str] = Field(description="what was done, in order: prune, quantize")
    format: str
    precision: str
    file: str = Field(description="path of the artifact, relative to the build folder; empty if it was not made")
    sha256: str
    size_bytes: int
    parameters: int | None = None
    macs: int | None = None
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    latency_note: str = Field(default="", description="why there is no latency, if so")
    host_latency: Latency | None = Field(default=None, description="the host's, where latency is a device's")
    device: DeviceRun | None = Field(default=None, description="its latency is the one above")
    speedup: float | None = Field(default=None, description="baseline min_ms / this min_ms, interleaved in one run")
    speedup_p50: float | None = None
    status: Status
    cause: str = Field(default="", description="why it was dropped or could not be scored, as one sentence")
    warnings: list[str] = Field([])
    gz_bytes: int | None = Field(default=None, description="size compressed by gzip; null without [prune] sparsity")
    sparse: SparseFile | None = Field(default=None, description="null where no weights were set to zero, and for ONNX")
    search: SearchSummary | None = Field(default=None, description="null where no precision was searched for")
    planned: list[PlannedOp] = Field(
        default=[], description="every op in the order they run; empty where no op is planned: all are `precision`"
    )
    disagreements: Disagreements | None = Field(default=None, description="null where nothing was compared with float")
    layers: list[Layer] = Field(
        default=[],
        description="every layer against the float model; empty for a float file, and where diagnosis says it",
    )
    diagnosis: Diagnosis | None = Field(default=None, description="why it loses; null where there was nothing to ask")


class StepGain(Model):
    """What one step bought on this target: the row before against the row after."""

    step: str
    before: str
    after: str
    size_ratio: float = Field(description="bytes after / bytes before")
    speedup: float | None = Field(description="min_ms before / min_ms after")
    accuracy_points: float | None = Field(description="after minus before, in points")
    kept: bool
    cause: str = ""


class BudgetResult(Model):
    """One budget of the recipe against what the shipped artifact reached."""

    name: str
    limit: float
    reached: float | None = Field(description="null: could not be measured, which is a miss")
    unit: str
    passed: bool
    note: str = ""


class TargetReport(Model):
    """One target's verdict and everything behind it."""

    target: str
    title: str
    family: str
    outcome: Outcome
    sentence: str = Field(description="the verdict in one sentence")
    baseline: str = Field(description="name of the float, unpruned variant")
    shipped: str = Field(description="name of the variant that ships, or empty")
    variants: list[Variant]
    steps: list[StepGain]
    budgets: list[BudgetResult]
    bundle: str = Field(default="", description="folder with what to deploy, relative to the build folder")


class Source(Model):
    """The trained model as it came in. ``custom_sha256``: of the user's file whose classes its layers are made of."""

    path: str
    format: str
    sha256: str
    size_bytes: int
    parameters: int | None = None
    task: str
    custom_sha256: str = ""
    warnings: list[str] = Field([])


class Environment(Model):
    edgekit: str
    python: str
    system: str
    machine: str
    cpu: str
    cores: int
    memory_bytes: int
    libraries: dict[str, str]


class Failure(Model):
    """A step that failed: nothing that depends on it exists."""

    step: str
    targets: list[str]
    error: str
    message: str
    hint: str = ""
    exit_code: int


class Identity(Model):
    """What must be equal before two reports may be compared, and what the build was asked for."""

    recipe: str = Field(default="", description="the recipe's path as it was given; its name where that is absolute")
    targets: list[str] = Field(default=[], description="every target that was asked for, also those without a verdict")
    test_sha256: str = Field(default="", description="content of the test samples and their labels")
    calibration_sha256: str = ""
    train_sha256: str = Field(default="", description="empty where there are none")


class Report(Model):
    """The whole report of one build."""

    schema_version: Literal[1] = 1
    name: str = Field(description="name of the recipe's folder or model")
    created: str = Field(description="UTC, ISO 8601")
    duration_s: float
    exit_code: int
    source: Source
    targets: list[TargetReport]
    prune: PruneSummary | None = None
    failures: list[Failure] = Field([])
    environment: Environment
    recipe_sha256: str
    identity: Identity = Identity()
    check: CheckTable = CheckTable()
    test_samples: int
    calibration_samples: int
    warnings: list[str] = Field([])
