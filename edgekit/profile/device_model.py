"""An artifact on a connected device, called like one on this host."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.devices import Session, open_device
from edgekit.profile.correctness import decode_tensor

_TIMEOUT_S = 120.0


class DeviceModel:
    """Has what ``edgekit.runtimes.Session`` has for one call after another; nothing here is timed."""

    def __init__(self, session: Session, loaded: dict[str, Any]) -> None:
        self.runtime = str(loaded["runtime"])
        self.version = str(loaded["version"])
        self.inputs: list[dict[str, Any]] = loaded["inputs"]
        self.outputs: list[dict[str, Any]] = loaded["outputs"]
        self._session = session

    def run(self, arrays: list[Any]) -> list[Any]:
        """Send the inputs, in the order of ``inputs``, and return the outputs, in the order of ``outputs``."""
        tensors = [_encode(about["name"], array) for about, array in zip(self.inputs, arrays, strict=True)]
        replied = self._session.ask("run", _TIMEOUT_S, tensors=tensors)["outputs"]
        outputs = {str(output["name"]): decode_tensor(output) for output in replied}
        return [outputs[about["name"]] for about in self.outputs]


@contextmanager
def on_device(device: str, artifact: Path, format: str, threads: int) -> Iterator[DeviceModel]:
    """Load an artifact on a device for as long as the context lasts. Raises what device and session raise."""
    with open_device(device) as opened, opened.connect(artifact.name) as session:
        loaded = session.ask(
            "load", _TIMEOUT_S, path=artifact, format=format, threads=threads, inputs=None, seed=0
        )  # fmt: skip
        yield DeviceModel(session, loaded)


def _encode(name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    content = np.ascontiguousarray(array)
    return {
        "name": name,
        "shape": list(content.shape),
        "dtype": content.dtype.name,
        "data": base64.b64encode(content.tobytes()).decode(),
    }
