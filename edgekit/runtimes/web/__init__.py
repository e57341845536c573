"""What executes an artifact in a browser: an own page, LiteRT.js and onnxruntime-web, and the server for both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WebRuntime:
    """A runtime of the page. ``package`` is its npm package; ``dtypes`` are all that its tensors can be.

    ``times_ops``: it has a profiler.
    """

    name: str
    package: str
    dtypes: frozenset[str] | None = None
    times_ops: bool = False


WEB_RUNTIMES: dict[str, WebRuntime] = {
    # DATATYPES of @litertjs/core: a model with any other input or output is refused as a whole
    "tflite": WebRuntime("LiteRT.js", "@litertjs/core", frozenset({"float32", "int32", "uint8"})),
    "onnx": WebRuntime("onnxruntime-web", "onnxruntime-web", times_ops=True),
}
