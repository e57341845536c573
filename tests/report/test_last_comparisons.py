"""What a build compares at the end decides nothing: where it cannot be had, the row says so."""

from __future__ import annotations

from types import ModuleType

import pytest
from report_example import example

from edgekit import disagreements, layer_noise
from edgekit.errors import StageError
from edgekit.pipeline import Outcome
from edgekit.steps import Row


@pytest.mark.parametrize("module", [disagreements, layer_noise], ids=["disagreements", "layer_noise"])
def test_a_comparison_that_fails_is_a_warning_in_its_row(module: ModuleType) -> None:
    verdict = example().targets[0]
    row = Row("int8", ("quantize",), "tflite", "int8", "emit-tflite-int8-original", "score-int8", False)
    told = module._with(verdict, row, Outcome(errors={module._id(row): StageError("the runtime died")}))
    warned = {variant.name: variant.warnings for variant in told.variants}
    assert [words for words in warned["int8"] if words.endswith("could not be compared: the runtime died")]
    assert all(not words for name, words in warned.items() if name != "int8")
    assert (told.outcome, told.shipped) == (verdict.outcome, verdict.shipped)
    assert module._with(verdict, None, Outcome()) is verdict
