"""The command line: parse, call, hand to the console."""

from edgekit.cli.app import app, main

__all__ = ["app", "main"]
