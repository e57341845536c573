"""What fine-tuning sees, and what it must never see."""

from __future__ import annotations

import pytest

from edgekit.finetune.samples import LEAST, Samples
from edgekit.search.stage import Split


@pytest.mark.parametrize("available", range(LEAST, 500, 7))
@pytest.mark.parametrize("wanted", [1, 64, 128])
def test_what_judges_a_plan_is_never_learned_from(available: int, wanted: int) -> None:
    split = Split.of(available, wanted)
    samples = Samples.of(available, split.held)
    train, watch, held = set(samples.train), set(samples.watch), set(split.held)
    assert not (train | watch) & held
    assert not train & watch
    assert train | watch | held == set(range(available))
    assert len(train) >= 12
    assert 3 <= len(watch) <= 64


def test_memory_does_not_grow_with_any_number_of_samples() -> None:
    samples = Samples.of(100_000, range(128, 192))
    assert 512 < len(samples.train) <= 1024
    assert max(samples.train) > 99_000, "spread over all of them"
