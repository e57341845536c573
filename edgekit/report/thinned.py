"""What pruning did besides cutting channels, as data: low-rank pairs and zeros. Part of ``report.json``."""

from __future__ import annotations

from pydantic import Field

from edgekit.report.measured import Model


class LowRankLayer(Model):
    """One layer that could have become two thinner ones."""

    layer: str
    kept: bool = Field(description="whether it is two layers now")
    why: str = Field(description="what decided")
    width: int = Field(description="its outputs; 0 where it was not looked at")
    rank: int = Field(description="outputs of the thin layer in front; a multiple of 8")
    energy: float = Field(description="share of the variance of its outputs that this rank keeps")
    error: float = Field(description="the same as an error: rms over the standard deviation of its outputs")
    macs_before: int
    macs_after: int
    ms_before: float | None = Field(description="alone in LiteRT on this host, in the precision that gains least")
    ms_after: float | None = Field(description="of the pair, timed in turns with the layer")


class LowRankSummary(Model):
    output_error: float = Field(
        description="of the network's worst output on held samples, rms over its standard deviation, before recovery"
    )
    layers: list[LowRankLayer]


class SparsitySummary(Model):
    zeros: int = Field(description="weights that are zero")
    of: int = Field(description="weights of the layers that have zeros")
    parameters: int = Field(description="of the whole network")
    layers: int


class SparseFile(Model):
    """A .tflite whose weights are stored without their zeros. LiteRT unpacks them on loading: the speed is the same."""

    weights: int = Field(description="how many of its tensors are")
    dense_bytes: int = Field(description="size of the same file with all zeros")
    note: str = Field(description="why none is, if so")
