"""Let these tests use the hand-made graphs of the neighbouring folders."""

import sys
from pathlib import Path

for folder in ("quantize", "runtimes"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
