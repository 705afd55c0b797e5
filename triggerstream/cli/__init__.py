"""The command `triggerstream`: one module a command group."""

from triggerstream.cli.program import main

__all__ = ["main"]
