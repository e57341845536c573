"""The log of an unexpected error, ready to paste into an issue: all that a report needs, and nothing secret."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
from pathlib import Path

from edgekit import __version__

LIBRARIES = (
    *("tensorflow-cpu", "tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxruntime"),
    *("onnxslim", "tf2onnx", "numpy", "pydantic", "typer", "playwright"),
)
_HIDDEN = "***"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|AUTH", re.I)
_PATTERNS = (
    (re.compile(r"(://[^\s/:@]+):[^\s/@]+@"), rf"\1:{_HIDDEN}@"),  # a password in an address
    (re.compile(r"(\bbrowser[\w:]*@[\w.:\[\]-]+/)[\w-]+"), rf"\1{_HIDDEN}"),  # the page's token
    (
        re.compile(r"(?i)((?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|credential)s?[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;`]+"),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}"), rf"\1 {_HIDDEN}"),
)  # fmt: skip
_SHORTEST_SECRET = 6  # what is shorter would hide parts of common words


def write(error: BaseException) -> Path:
    """Write versions, machine, command and traceback as Markdown and return where."""
    text = "".join(traceback.format_exception(error))
    versions = [f"{name} {version}" for name in LIBRARIES if (version := _version(name))]
    content = (
        f"edgekit {__version__}, Python {platform.python_version()}, {platform.platform()}, "
        f"{platform.machine()}, {os.cpu_count()} cores\n\n"
        f"Libraries: {', '.join(versions)}\n\n"
        f"Command: `{shlex.join(['edgekit', *sys.argv[1:]])}`\n\n```\n{text}```\n"
    )
    with tempfile.NamedTemporaryFile("w", prefix="edgekit-bug-", suffix=".md", delete=False, encoding="utf-8") as log:
        log.write(without_secrets(content))
    return Path(log.name)


def without_secrets(text: str) -> str:
    """Return the text without passwords, tokens, and the values of environment variables that are named like them.

    The home folder, which tells a name, becomes ``~``.
    """
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, _HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=[/\s'\"`]|$)", "~", text) if len(home) > 1 else text


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
