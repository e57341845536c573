"""Prune, quantize, convert and profile neural networks for small machines."""

__version__ = "0.1.0"
