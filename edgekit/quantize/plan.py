"""The plan: which precision every op gets and why, and the range of every tensor. JSON to read and edit."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgekit.errors import RecipeError, StageError

SCHEMA = 1
# int8: weights and activations. int16x8: int8 weights, 16-bit activations.
# int8-dynamic: int8 weights, activations quantized while running. int4-dynamic: the same with int4 weights.
# int8-weights: int8 weights turned back into float before a float op (size only).
OP_PRECISIONS = ("int8", "int16x8", "int8-dynamic", "int4-dynamic", "int8-weights", "float32")

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class OpDecision:
    """What happens to one op; ``op`` is its first output tensor's name."""

    op: str
    kind: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything the emitter needs, and why.

    ``scheme`` is litert for TFLite, tensorrt or cpu for ONNX; ``samples`` counts the calibration samples
    behind ``ranges`` (tensor name -> smallest and largest value seen).
    """

    format: str
    precision: str
    scheme: str
    decisions: tuple[OpDecision, ...]
    ranges: Ranges
    samples: int = 0
    notes: tuple[str, ...] = ()

    def ops(self, precision: str) -> tuple[str, ...]:
        """Return the ops of one precision, in graph order."""
        return tuple(decision.op for decision in self.decisions if decision.precision == precision)

    def counts(self) -> dict[str, int]:
        """Return how many ops have each precision."""
        found = {name: len(self.ops(name)) for name in OP_PRECISIONS}
        return {name: count for name, count in found.items() if count}

    def to_json(self) -> str:
        """Write the plan as stable, readable JSON: one line per op and per range."""
        head = {"schema": SCHEMA, **asdict(self)}
        head["decisions"] = "@decisions"
        head["ranges"] = "@ranges"
        text = json.dumps(head, indent=1, ensure_ascii=False)
        decisions = ",\n".join("  " + json.dumps(asdict(d), ensure_ascii=False) for d in self.decisions)
        ranges = ",\n".join(
            f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps([low, high])}"
            for name, (low, high) in sorted(self.ranges.items())
        )
        text = text.replace('"@decisions"', f"[\n{decisions}\n ]" if decisions else "[]", 1)
        return text.replace('"@ranges"', f"{{\n{ranges}\n }}" if ranges else "{}", 1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan, also one edited by hand; raises RecipeError that says what is wrong in it."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecipeError(f"the plan is not JSON: {error}") from error
        return _from_data(data)


def _from_data(data: Any) -> Plan:
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise RecipeError(f'the plan has no "schema": {SCHEMA}', "Write a new plan with this version of edgekit.")
    known = {field.name for field in fields(Plan)}
    wrong = sorted(set(data) - known) + sorted(known - set(data) - {"samples", "notes"})
    if wrong:
        raise RecipeError(f"the plan has unknown or missing keys: {', '.join(wrong)}")
    try:
        decisions = tuple(OpDecision(**decision) for decision in data.pop("decisions"))
        ranges = {name: (float(low), float(high)) for name, (low, high) in data.pop("ranges").items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise RecipeError(f"the plan has a malformed decision or range: {error}") from error
    bad = sorted({d.precision for d in decisions} - set(OP_PRECISIONS))
    if bad:
        raise RecipeError(f"the plan has unknown precisions: {', '.join(bad)}", f"Known: {', '.join(OP_PRECISIONS)}.")
    plan = Plan(decisions=decisions, ranges=ranges, notes=tuple(data.pop("notes", ())), **data)
    check_ranges(plan.ranges)
    return plan


def check_ranges(ranges: Ranges) -> None:
    """Raise StageError naming the first tensor whose range is not finite or is upside down."""
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high)):
            raise StageError(
                f"tensor '{name}' reached {low} .. {high} during calibration",
                "The float model overflows or divides by zero on a sample: check the preprocessing.",
            )
        if low > high:
            raise StageError(f"tensor '{name}' has an upside-down range {low} .. {high}")
