from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def eagerly() -> Iterator[None]:
    """Run tf.functions as plain Python: tracing a small model once takes ten times as long as running it."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
