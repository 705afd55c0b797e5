"""Standard output and error of the program: characters or bytes that they cannot take are no traceback."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

OUTPUT = "standard output"
"""File name in an error of standard output."""
_STDOUT, _STDERR = 1, 2


class _Output(FileIO):
    """Standard output; its errors name it as they name any other file."""

    def write(self, data: Buffer, /) -> int:
        """Write some of ``data``."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, OUTPUT) from exc


def prepare_streams() -> None:
    r"""Make both streams take any text, and errors of standard output name it.

    A character that the encoding of a stream lacks is written as an escape, such as ``\u2502``. A stream
    that was closed when the process started becomes the null device: otherwise the next file that is opened
    would get its number, and the output.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open until the end
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.flush()
        sys.stdout = TextIOWrapper(
            BufferedWriter(_Output(_STDOUT, "wb", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=sys.stdout.isatty(),
        )


def discard_output() -> None:
    """Discard all that is still to be written to standard output: Python writes it when it exits."""
    _discard(sys.stdout, _STDOUT)


def discard_errors() -> None:
    """Discard all that is still to be written to standard error."""
    _discard(sys.stderr, _STDERR)


def _discard(stream: TextIO, number: int) -> None:
    with suppress(OSError, ValueError):
        if stream.fileno() != number:
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
        stream.flush()


def missing_character(text: str) -> str | None:
    """The first character of ``text`` that the encoding of standard output lacks; None if it has all."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError as exc:
        return text[exc.start]
    return None
