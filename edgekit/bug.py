"""The log of an unexpected error, ready to paste into an issue."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from pathlib import Path

from edgekit import __version__


def write(error: BaseException) -> Path:
    """Write versions, command and traceback as Markdown and return where."""
    text = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile("w", prefix="edgekit-bug-", suffix=".md", delete=False, encoding="utf-8") as log:
        log.write(
            f"edgekit {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n"
            f"Command: `{' '.join(['edgekit', *sys.argv[1:]])}`\n\n```\n{text}```\n"
        )
    return Path(log.name)
