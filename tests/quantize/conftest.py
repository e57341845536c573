"""Let these tests use the hand-made graphs of the neighbouring folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "runtimes"))
