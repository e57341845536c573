"""Write detections.keras: the hard detector with boxes in pixels and scores joined in one output.

python -m benchmarks.hard_detector.join
"""

from pathlib import Path
from typing import Any

from benchmarks.hard_detector.network import in_one_tensor
from edgekit import keras_io
from edgekit.progress import Progress

HERE = Path(__file__).parent
JOINED = HERE / "detections.keras"


def run(*, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the file beside model.keras; nothing goes to ``out``."""
    progress(0.0, "joining the outputs")
    keras_io.save(in_one_tensor(keras_io.load(HERE / "model.keras")), JOINED)
    return {}


if __name__ == "__main__":
    run(out=HERE, progress=lambda done, text: None)
