"""The micro-benchmarks of pruning on a board: the same files, timed there, kept under what the board is."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import Sshd

from edgekit.devices import open_device
from edgekit.prune.latency import cache
from edgekit.prune.latency.grid import Grid
from edgekit.prune.latency.shapes import OpShape
from edgekit.prune.latency.tables import place_of, table_of


@pytest.mark.slow
def test_ops_are_timed_on_the_board(board: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    grids = [Grid(OpShape("conv", (8, 8), (3, 3)), (8,), (8, 16))]
    with open_device(board.address) as device:
        place = place_of(device, "tflite", "int8", 1)
        assert place is not None
        found = table_of(place, grids, device, 0.0)
        again = table_of(place, grids, device, 0.0)
    assert place.device == device.name
    assert (found.timed, again.timed) == (2, 0)
    assert len(found.table.times_ns) == 2
    assert cache.file_of(place).is_file()
