"""The map of every op's precision: complete, small, in blocks that follow the names of layers."""

from __future__ import annotations

import pytest
from parsed_page import Page
from report_example import example

from edgekit.report.precision_section import blocks, precision_map, summary
from edgekit.report.schema import PlannedOp, TargetReport


def planned(count: int, exceptions: int = 2) -> list[PlannedOp]:
    """``count`` ops in blocks of seven; the last ones are float."""
    return [
        PlannedOp(
            name=f"block{index // 7}_conv{index}", kind="CONV_2D", macs=1000 * (index % 7),
            precision="float32" if index >= count - exceptions else "int8",
            reason="output decoding" if index >= count - exceptions else "",
        )
        for index in range(count)
    ]  # fmt: skip


def with_planned(ops: list[PlannedOp]) -> TargetReport:
    target = example().targets[0]
    rows = [row.model_copy(update={"planned": ops if row.name == "pruned-int8" else []}) for row in target.variants]
    return target.model_copy(update={"variants": rows})


@pytest.mark.parametrize("count", [1, 10, 1000, 5000])
def test_the_precision_map_holds_every_op_of_small_and_large_networks(count: int) -> None:
    made = precision_map(with_planned(planned(count, exceptions=min(2, count - 1))))
    assert made is not None
    cells = [a for tag, a in Page(made).elements if tag == "i" and "title" in a]
    assert len(made) < 200_000
    if count <= 600:
        assert len(cells) == count
    else:  # neighbours that are alike share a cell, and it says how many they are
        single = sum(" ops, " not in (a["title"] or "") for a in cells)
        together = [int((a["title"] or "").split()[0]) for a in cells if " ops, " in (a["title"] or "")]
        assert single + sum(together) == count
    if count > 2:
        assert "output decoding" in Page(made).text
        assert sum(a["class"] == "p-float32" for a in cells) >= 1


def test_the_precision_map_counts_work_and_never_rounds_to_all_of_it() -> None:
    ops = [PlannedOp(name="a_1", kind="Conv", precision="int8", macs=10**9)]
    ops.append(PlannedOp(name="b_1", kind="Conv", precision="float32", macs=1))
    assert summary(ops).replace("\u00a0", " ") == (
        "1 of 2 ops int8 with 99.99 % of the multiply-accumulates; "
        "1 of 2 ops float32 with 0.01 % of the multiply-accumulates."
    )


def test_blocks_follow_the_names_of_layers() -> None:
    names = ["Transpose_0", "stem_1", "stem_relu_1", "low_a_1", "low_b_1", "low_c_1", "Resize_9", "neck_a", "neck_b"]
    ops = [PlannedOp(name=name, kind="Conv", precision="int8") for name in names]
    assert [(name, len(members)) for name, members in blocks(ops)] == [("stem", 3), ("low", 4), ("neck", 2)]
    torch = [
        PlannedOp(name=f"/model.{i // 4}/cv{i % 4}/Conv_output_0", kind="Conv", precision="int8") for i in range(24)
    ]
    assert len(blocks(torch)) == 6
