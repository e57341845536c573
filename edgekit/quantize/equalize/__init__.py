"""Cross-layer equalization: give all channels of an activation the range of the tensor, without changing outputs."""

from edgekit.quantize.equalize.rescale import Equalized, equalize

__all__ = ["Equalized", "equalize"]
