"""What all tests share. TensorFlow's native log is kept out of the output, here and in every child process.

``make test`` runs the tests in as many processes as the machine has cores and memory for, plain ``pytest`` in one.
So that a new test does not disturb its neighbours:

- Files belong in ``tmp_path``, nothing is written into the checkout, and ports are asked of the kernel.
- A finished build comes from ``finished``, which is made once for all workers; a test changes a copy of it.
- A file's tests run in one worker, so a module fixture is made once. All files that import ``adb_phone`` or ``arm`` run
  in one, as their stand-ins are there but once (``workers.USES_STAND_INS``).
- What follows the conversion of a Keras model starts from ``project.begin``: it brings the converted float graphs.
- A neighbour may take a core at any moment: wait for an event, not for a time, and expect no speed.
"""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import workers
from project import ONE_EPOCH, edgekit, fashion

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# One folder for all workers of a run: op times are taken once, and the user's own stay as they are.
_OWN_CACHE = None if "EDGEKIT_CACHE" in os.environ else tempfile.mkdtemp(prefix="edgekit-cache-")
if _OWN_CACHE:
    os.environ["EDGEKIT_CACHE"] = _OWN_CACHE


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return workers.fitting()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: workers.Producer) -> workers.InGroups:
    return workers.InGroups(config, log)


def pytest_unconfigure() -> None:
    if _OWN_CACHE:
        shutil.rmtree(_OWN_CACHE, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        workers.long_ones_first(items)


def pytest_collection_finish() -> None:
    """Spare the imported libraries from garbage collection, which Keras asks for with every cleared session."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose folder holds a finished build, ``out``, made with pruning. Tests change copies of it only."""

    def make(folder: Path) -> None:
        recipe = fashion(folder / "fashion", ONE_EPOCH)
        done = edgekit("build", "-c", recipe, "-o", recipe / "out")
        assert done.code == 0, done.err

    return workers.made_once(tmp_path_factory, "finished", make) / "fashion"
