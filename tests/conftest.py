"""Keep TensorFlow's native log out of the test output, here and in every child process."""

import os
from pathlib import Path

import pytest
from project import ONE_EPOCH, edgekit, fashion

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose folder holds a finished build, ``out``, made with pruning. Tests change copies of it only."""
    folder = fashion(tmp_path_factory.mktemp("finished") / "fashion", ONE_EPOCH)
    done = edgekit("build", "-c", folder, "-o", folder / "out")
    assert done.code == 0, done.err
    return folder
