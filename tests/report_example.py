"""A whole report with invented figures: four targets, one untimed, one dropped int8, one missed budget."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from edgekit.diagnose.schema import ClassAgreement, Diagnosis, Finding, Layer, OutputError, WorstSample
from edgekit.profile.verdict import Budget, judge
from edgekit.report.schema import (
    Accuracy,
    Disagreement,
    Disagreements,
    Environment,
    Failure,
    Latency,
    LowRankLayer,
    LowRankSummary,
    OpTime,
    Place,
    PlannedOp,
    PruneSummary,
    Report,
    SeenBox,
    Source,
    SparsitySummary,
    TargetReport,
    Variant,
)

METRIC = "mAP@[.5:.95]"
FLOAT_OPS = {
    "Convolution (NHWC, F32) IGEMM": 0.56,
    "Convolution (NHWC, F32) DWConv": 0.22,
    "Convolution (NHWC, F32) GEMM": 0.14,
    "Sigmoid (NC, F32)": 0.05,
    "Concatenate": 0.02,
    "RESHAPE": 0.01,
}
INT8_OPS = {
    "Convolution (NHWC, QC8) IGEMM": 0.48,
    "Convolution (NHWC, QC8) DWConv": 0.25,
    "Convolution (NHWC, QC8) GEMM": 0.15,
    "Convert (NC, QS8, F32)": 0.06,
    "Sigmoid (NC, F32)": 0.06,
}
FALLBACK_OPS = {"Conv": 0.55, "QuantizeLinear": 0.2, "DequantizeLinear": 0.15, "QLinearConv": 0.1}


def latency(p50_ms: float, runtime: str, ops: dict[str, float], *, place: Place = "host", **extra: Any) -> Latency:
    """Invent 120 calls: a sharp lower edge and a tail."""
    rng = random.Random(f"{p50_ms}{runtime}")
    calls = [p50_ms * (0.965 + 0.035 * rng.expovariate(1.0)) for _ in range(120)]
    ordered = sorted(calls)
    fields: dict[str, Any] = {
        "machine": "Example CPU @ 2.10GHz, 2 cores",
        "threads": 1,
        "flags": [],
        "ops_note": "" if ops else "the web runtime gives none",
    }
    return Latency(
        place=place,
        runtime=runtime,
        runtime_version="2.3.0" if runtime == "litert" else "1.31.1",
        warmup_calls=20,
        min_ms=ordered[0],
        p50_ms=ordered[60],
        p90_ms=ordered[108],
        p99_ms=ordered[118],
        samples_ns=[int(call * 1e6) for call in calls],
        calls_per_sample=1,
        load_ms=14.2,
        first_call_ms=p50_ms * 1.9,
        peak_memory_bytes=int(31e6 + p50_ms * 1e6),
        ops=[OpTime(name=kind, kind=kind, ms=p50_ms * share) for kind, share in ops.items()],
        **{**fields, **extra},
    )


def variant(
    name: str, value: float | None, size_bytes: int, time: Latency | None, artifact_format: str, **extra: Any
) -> Variant:
    precision = name.removeprefix("pruned-")
    steps = ["prune"] * name.startswith("pruned") + ["quantize"] * (precision != "float32")
    drop = None if value is None else round((0.612 - value) * 100, 4)
    accuracy = None
    if value is not None and drop is not None:
        accuracy = Accuracy(
            metric=METRIC,
            value=value,
            secondary={"mAP@.5": round(value * 1.43, 3)},
            per_class={str(digit): round(value + (digit - 4.5) * 0.011, 4) for digit in range(10)},
            samples=500,
            drop_points=drop if steps else 0.0,
            drop_low_points=round(drop - 0.55, 4) if steps else None,
            drop_high_points=round(drop + 0.6, 4) if steps else None,
            runtime="litert" if artifact_format == "tflite" else "ort",
            runtime_version="2.3.0" if artifact_format == "tflite" else "1.31.1",
        )
    fields: dict[str, Any] = {"file": f"{name}.{artifact_format}", "status": "kept"}
    return Variant(
        name=name,
        steps=steps,
        format=artifact_format,
        precision=precision,
        sha256=hashlib.sha256(f"{name}.{artifact_format}".encode()).hexdigest(),
        size_bytes=size_bytes,
        accuracy=accuracy,
        latency=time,
        **{**fields, **extra},
    )


def with_speedups(rows: list[Variant]) -> list[Variant]:
    first = rows[0].latency
    assert first is not None
    return [
        row.model_copy(update={"speedup": first.min_ms / row.latency.min_ms if row.latency else None}) for row in rows
    ]


def planned() -> list[PlannedOp]:
    """Invent 40 ops in six blocks; the last block is left in float."""
    return [
        PlannedOp(
            name=f"block{index // 7}_conv{index % 7}", kind="CONV_2D", macs=1_000_000 * (1 + index % 7),
            precision="float32" if index >= 35 else "int8", reason="output decoding" if index >= 35 else "",
        )
        for index in range(40)
    ]  # fmt: skip


PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def boxes_differ(name: str = "0068.jpg") -> Disagreements:
    """Invent a detection that is lost."""
    seven = SeenBox(x1=12, y1=20, x2=40, y2=60, label="7", score=0.91, shared=True)
    one = SeenBox(x1=70, y1=2, x2=120, y2=60, label="1" if name == "0068.jpg" else name, score=0.62, shared=False)
    shown = [
        Disagreement(
            sample=f"{name}{number}", picture=PIXEL, width=128, height=128, gap=0.5, before=[seven, one], after=[seven]
        )
        for number in ("", " again")
    ]
    return Disagreements(samples=500, differing=7, lost=5, won=2, shown=shown)


def answers_differ(name: str = "test.npz[7]", picture: str = PIXEL) -> Disagreements:
    """Invent a changed answer."""
    item = Disagreement(
        sample=name, picture=picture, width=28, height=28, gap=0.4, truth=name, answer_before=f"{name} (51 %)",
        answer_after="Pullover (49 %)",
    )  # fmt: skip
    return Disagreements(samples=500, differing=1, lost=1, won=0, shown=[item])


def raspberry_pi() -> TargetReport:
    rows = [
        variant("float32", 0.612, 4_936_000, latency(18.4, "litert", FLOAT_OPS), "tflite"),
        variant("pruned-float32", 0.611, 2_210_000, latency(8.1, "litert", FLOAT_OPS), "tflite"),
        variant("int8", 0.610, 1_310_000, latency(6.9, "litert", INT8_OPS), "tflite", planned=planned()),
        variant(
            "pruned-int8",
            0.609,
            602_000,
            latency(3.02, "litert", INT8_OPS),
            "tflite",
            planned=planned(),
            disagreements=boxes_differ(),
            layers=diagnosis().layers,
        ),
    ]
    budget = Budget(accuracy_drop_points=0.6, latency_ms=10, model_mb=1)
    return judge(
        "raspberry-pi-4", "Raspberry Pi 4", "raspberry-pi", with_speedups(rows), budget, timed=True
    ).model_copy(update={"bundle": "raspberry-pi-4/bundle"})


def pixel() -> TargetReport:
    """Pruning pays, int8 does not: it falls back to float in the middle."""
    rows = [
        variant("float32", 0.612, 4_990_000, latency(15.2, "ort", FLOAT_OPS), "onnx"),
        variant(
            "pruned-float32", 0.611, 2_260_000, latency(7.4, "ort", FLOAT_OPS), "onnx", disagreements=answers_differ()
        ),
        variant("int8", 0.608, 1_390_000, latency(17.9, "ort", FALLBACK_OPS), "onnx"),
        variant(
            "pruned-int8",
            None,
            0,
            None,
            "onnx",
            cause="calibration failed: the ranges of 'head/concat' are not finite",
            latency_note="there is no artifact",
        ),
    ]
    return judge("pixel-8", "Pixel 8", "android", with_speedups(rows), Budget(accuracy_drop_points=0.6), timed=True)


def diagnosis(name: str = "stem_hard_swish") -> Diagnosis:
    """Blame one of twelve layers; nothing is known of the input, and the last is float."""
    layers = [
        Layer(
            tensor=name if index == 3 else f"block{index}_relu", counterpart=f"t{index}", op="CONV_2D",
            sqnr_db=44.0 - index, cosine=0.99, low=0.0, high=6.0 + index, scale=0.024, zero_point=-128, range_low=0.0,
            range_high=6.1, range_used=0.98, clipped_low=0.0, clipped_high=0.01 * (index == 3),
            unevenness=2.0, output_error=0.47 if index == 3 else 0.004 * index, weights_output_error=0.001 * index,
        )
        for index in range(1, 11)
    ]  # fmt: skip
    image = Layer(tensor="image", counterpart="image", op="", sqnr_db=None, cosine=None, low=0.0, high=1.0)
    boxes = Layer(tensor="boxes", counterpart="boxes", op="CONV_2D", sqnr_db=21.0, cosine=0.9, low=-3.0, high=9.0)
    return Diagnosis(
        format="tflite",
        samples=32,
        findings=[
            Finding(
                cause="uneven-channels", harm="accuracy", blame=0.44, where=[name, "block1_relu", "x", "y"],
                proof="its channels reach from 0.018 to 41.8", cure=f"Equalize its channels, or keep {name} in float.",
            ),
            Finding(cause="float-island", harm="latency", blame=0.02, where=[], proof="2 borders", cure="Use ReLU."),
        ],
        layers=[image, *layers, boxes],
        unmatched=[],
        outputs=[
            OutputError(output="boxes", relative_error=0.03, max_error=3.0),
            OutputError(output="scores", relative_error=None, max_error=None),
        ],
        worst_samples=[
            WorstSample(sample="0339.jpg", relative_error=0.8, lost=2),
            WorstSample(sample="0007.jpg", relative_error=None, lost=0),
        ],
        classes=[
            ClassAgreement(name="digit 3", count=15, agreement=0.87, float_metric=0.739, artifact_metric=0.433),
            ClassAgreement(name="digit 4", count=0, agreement=None, float_metric=0.0, artifact_metric=0.0),
        ],
        metric=METRIC,
        float_value=0.705,
        artifact_value=0.587,
        probes=165,
        complete=False,
    )  # fmt: skip


def browser() -> TargetReport:
    """Nothing compressed stays inside the budget."""
    rows = [
        variant("float32", 0.612, 4_936_000, latency(41.0, "litert", {}, threads=2), "tflite"),
        variant(
            "int8", 0.588, 1_310_000, latency(19.5, "litert", {}, flags=["unstable", "busy"]), "tflite",
            diagnosis=diagnosis(),
        ),
    ]  # fmt: skip
    return judge("browser", "Web browser", "browser", with_speedups(rows), Budget(accuracy_drop_points=0.6), timed=True)


def jetson() -> TargetReport:
    note = "TensorRT needs the board, and no device was given"
    rows = [
        variant("float32", 0.612, 4_990_000, None, "onnx", latency_note=note),
        variant("pruned-float32", 0.611, 2_260_000, None, "onnx", latency_note=note),
        variant(
            "pruned-int8",
            0.608,
            688_000,
            None,
            "onnx",
            latency_note=note,
            warnings=["scored in ONNX Runtime"],
        ),
    ]
    return judge("jetson-orin-nano", "Jetson Orin Nano", "jetson", rows, Budget(accuracy_drop_points=0.6), timed=False)


def example(name: str = "Digits detector") -> Report:
    """Return the report; ``name`` lets a test put hostile text in."""
    targets = [raspberry_pi(), pixel(), browser(), jetson()]
    return Report(
        name=name,
        created="2026-11-21T05:30:00Z",
        duration_s=412.7,
        exit_code=5,
        source=Source(
            path="detector.keras",
            format="keras",
            sha256="cd" * 32,
            size_bytes=4_935_475,
            parameters=1_212_340,
            task="detection",
            warnings=["the optimizer state in the file was ignored"],
        ),
        targets=targets,
        prune=PruneSummary(
            macs_before=310_400_000,
            macs_after=128_900_000,
            parameters_before=1_212_340,
            parameters_after=534_120,
            recovery="labels + distillation",
            recovery_epochs=12,
            exactness_error=3.1e-7,
            frozen=["head_boxes: feeds an output", "head_scores: feeds an output", "stem: feeds the input"],
            low_rank=LowRankSummary(
                output_error=0.084,
                layers=[
                    LowRankLayer(
                        layer="neck",
                        kept=True,
                        why="rank 32 of 64: 0.21 -> 0.14 ms",
                        width=64,
                        rank=32,
                        energy=0.985,
                        error=0.12,
                        macs_before=9_437_184,
                        macs_after=4_849_664,
                        ms_before=0.21,
                        ms_after=0.14,
                    ),
                    LowRankLayer(
                        layer="head_boxes",
                        kept=False,
                        why="it is called more than once",
                        width=0,
                        rank=0,
                        energy=0.0,
                        error=0.0,
                        macs_before=0,
                        macs_after=0,
                        ms_before=None,
                        ms_after=None,
                    ),
                ],
            ),
            sparsity=SparsitySummary(zeros=260_000, of=520_000, parameters=534_120, layers=14),
        ),
        failures=[
            Failure(
                step="quantize pruned-int8 for pixel-8",
                targets=["pixel-8"],
                error="StageError",
                message="the ranges of 'head/concat' are not finite",
                hint="Run edgekit diagnose on the float artifact.",
                exit_code=5,
            )
        ],
        environment=Environment(
            edgekit="0.1.0",
            python="3.11.7",
            system="Linux 6.1",
            machine="x86_64",
            cpu="Example CPU @ 2.10GHz",
            cores=2,
            memory_bytes=8_000_000_000,
            libraries={"tensorflow": "2.21.0", "ai-edge-litert": "2.3.0", "onnxruntime": "1.31.1"},
        ),
        recipe_sha256="ef" * 32,
        test_samples=500,
        calibration_samples=256,
    )
