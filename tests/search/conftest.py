"""Let these tests use the small networks of the neighbouring folders."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "diagnose"), str(TESTS / "quantize")]
