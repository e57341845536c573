"""What follows a cut of channels before its recovery: layers as low-rank pairs, and single weights at zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from edgekit.prune.keras.signature import Arrays
from edgekit.prune.thinning.low_rank import Decision, LowRankSettings, factorise, output_error
from edgekit.prune.thinning.pair_timing import PairTimer
from edgekit.prune.thinning.sparsity import Masks, masks


@dataclass(frozen=True)
class Thinned:
    """A network ready for recovery, and what was done to it; ``facts`` is what the report tells."""

    network: keras.Model
    masks: Masks | None
    facts: dict[str, Any]

    @property
    def macs_saved(self) -> int:
        """Multiply-accumulates that low-rank pairs take less than their layers did."""
        layers = self.facts.get("low_rank", {"layers": []})["layers"]
        return sum(layer["macs_before"] - layer["macs_after"] for layer in layers if layer["kept"])

    @property
    def after_step(self) -> Callable[[], None] | None:
        """What has to run after each step of a training, so that zeros stay zero."""
        return self.masks.apply if self.masks else None


class Thinning:
    """The recipe's wishes: ``low_rank``, with ``energy`` kept, and ``sparsity`` (a share, "2:4" or None).

    ``precisions``: in which a pair of layers must be faster; ``work``: where measured times are remembered.
    """

    def __init__(
        self, samples: Arrays, work: Path, *, low_rank: bool, energy: float, sparsity: float | str | None,
        precisions: Sequence[str],
    ) -> None:  # fmt: skip
        self.samples, self.work = samples, work
        self.low_rank, self.energy, self.sparsity, self.precisions = low_rank, energy, sparsity, precisions

    @property
    def asked(self) -> bool:
        """Say whether the recipe wishes for anything."""
        return bool(self.low_rank or self.sparsity)

    def thin(self, network: keras.Model) -> Thinned:
        """Return the thinned network; without any wish, the network itself."""
        facts: dict[str, Any] = {}
        if self.low_rank:
            self.work.mkdir(parents=True, exist_ok=True)
            timer = PairTimer(self.work / "pair-times.json", self.precisions)
            made, decisions = factorise(network, self.samples, LowRankSettings(energy=self.energy), timer)
            facts["low_rank"] = _told(network, made, decisions, self.samples)
            network = made
        chosen = masks(network, self.samples, self.sparsity) if self.sparsity else None
        if chosen:
            chosen.apply()
            facts["sparsity"] = chosen.facts()
        return Thinned(network, chosen, facts)


def _told(network: keras.Model, made: keras.Model, decisions: Sequence[Decision], samples: Arrays) -> dict[str, Any]:
    return {
        "output_error": output_error(network, made, samples) if made is not network else 0.0,
        "layers": [decision.as_json() for decision in decisions],
    }
