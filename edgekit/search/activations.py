"""Quantize activations the other way: dynamic where static is the rule, static where dynamic is."""

from __future__ import annotations

import math
from dataclasses import replace

from edgekit.errors import UnsupportedError
from edgekit.quantize.decide import is_attention
from edgekit.quantize.kernels import SCHEMES
from edgekit.search.journal import Journal
from edgekit.search.problem import SENSITIVE, Base


def restyle(journal: Journal, base: Base) -> bool:
    """Try the other way on ``base``; take what reaches the target and is clearly faster.

    Where the target was missed, less loss is enough, as long as the float model is not faster than that. Tells
    whether the best plan is another now.
    """
    kept = journal.kept
    if not SCHEMES[kept.plan.scheme].dynamic or journal.out_of_time():
        return False
    other = replace(base, activations="static" if is_attention(base.graph) else "dynamic")
    left = {item.op: item.reason for item in kept.plan.decisions if item.reason == SENSITIVE}
    try:
        plan = journal.problem.decide(other, left if other.activations == "static" else {}, False)
    except UnsupportedError:  # no op of this network can be quantized that way
        return False
    if other.activations == "dynamic" and not plan.ops("int8-dynamic"):
        return False
    tried, ratio = journal.challenge(f"{other.activations} int8 activations", other, plan)
    if journal.kept is kept and tried.loss < kept.loss and kept.loss > journal.target and math.isfinite(ratio):
        float_ms = journal.problem.run(base, None, None).fastest_ms
        if tried.fastest_ms < float_ms:
            journal.keep(other, plan, tried.loss)
    changed = journal.kept is not kept
    if changed:
        how = f"{1 / ratio:.2f} times as fast as before" if ratio < 1 else "less loss than before"
        journal.notes.append(f"{tried.what} measured better here: {how}, loss {kept.loss:.4f} to {tried.loss:.4f}")
    return changed
