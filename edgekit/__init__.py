"""Prune, quantize, convert and profile neural networks for small machines."""

import os

__version__ = "0.1.0"

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime 1.31 would write a device ID and report to its maker
