"""The agent with one more command, which tells a result that was fetched from one that was made again."""

from __future__ import annotations

from pathlib import Path

from edgekit.runtimes import AGENT

SCRIPT = """
import pathlib, runpy, time
agent = runpy.run_path({agent!r})

def count(self, seconds):
    calls = pathlib.Path({calls!r})
    with calls.open("a") as stream:
        stream.write("x")
    time.sleep(seconds)
    return {{"calls": len(calls.read_text())}}

agent["Agent"].count = count
agent["serve"]()
"""


def write(folder: Path) -> Path:
    """Write an agent whose ``count(seconds)`` takes that long and returns how often it was called by any process."""
    path = folder / "agent.py"
    path.write_text(SCRIPT.format(agent=str(AGENT), calls=str(folder / "calls")))
    return path
