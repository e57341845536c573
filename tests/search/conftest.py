"""Let these tests use the small networks of the neighbouring folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "diagnose"))
