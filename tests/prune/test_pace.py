"""What there is no room for is left out, and said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import prune_graphs
import pytest

from edgekit.artifact import TensorSpec
from edgekit.dataset import Boxes, Dataset, Preprocess
from edgekit.prune.recovery import pace

PLAIN = Preprocess(None, "rgb", (0.0,), (1.0,))


@pytest.mark.slow
def test_epochs_end_where_the_minutes_do_and_stay_so_after_a_kill(tmp_path: Path) -> None:
    model = prune_graphs.build("chain")
    inputs = prune_graphs.samples(model, 8)

    def found(minutes: float, memo: str) -> int:
        return pace.affordable_epochs(
            model, inputs, wanted=12, batch=4, networks=1.4, minutes=minutes, memo=tmp_path / memo
        )

    assert found(60, "long") == 12
    assert found(1e-9, "none") == 1
    assert found(60, "none") == 1  # what was decided before


def test_samples_end_where_memory_does() -> None:
    specs = (TensorSpec("image", (1, 1024, 1024, 4), "float32"), TensorSpec("size", (1, 2), "float32"))
    assert pace.affordable_samples(specs) == pace.MOST_BYTES // (16 * 1024 * 1024 + 8)


def test_fewer_samples_are_spread_over_all_with_their_truth() -> None:
    truth = np.arange(100)
    data = Dataset(Path("a.npz"), PLAIN, arrays={"x": np.arange(100.0).reshape(100, 1)}, truth=truth)
    few = data.spread(5)
    np.testing.assert_array_equal(few.truth, [0, 25, 50, 74, 99])
    np.testing.assert_array_equal(few.arrays["x"][:, 0], few.truth)
    assert data.spread(100) is data
    boxes = [Boxes(np.zeros((1, 4), np.float32), np.array([number])) for number in range(4)]
    files = Dataset(Path("b"), PLAIN, files=[Path(f"{number}.png") for number in range(4)], truth=boxes).spread(2)
    assert [path.name for path in files.files] == ["0.png", "3.png"]
    assert [int(one.classes[0]) for one in files.truth] == [0, 3]
