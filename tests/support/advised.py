"""Carries out repairs as they are printed.

`tests/acceptance/test_advice.py` finds the tests that call these functions.
"""

from __future__ import annotations

import asyncio
import re
import shlex

from tests.support.commands import END_S, Ran, triggerstream

_BACKTICKS = re.compile(r"`([^`]+)`")
_PATIENCE = "stays a member until its session times out"


def printed_command(text: str, said: str, *, number: int = 0) -> list[str]:
    """The words of a command of the advice ``text``, which is shown to be part of ``said``."""
    assert text in said, said
    return shlex.split(_BACKTICKS.findall(text)[number])


async def carry_out(text: str, said: str, *more: str, status: int = 0, number: int = 0) -> Ran:
    """Run a command of an advice that was printed in ``said``, once no killed worker is a member.

    ``number``: which of its commands; ``more``: options that the advice leaves to its reader.
    """
    program, *words = printed_command(text, said, number=number)
    assert program == "triggerstream"
    async with asyncio.timeout(END_S):
        while _PATIENCE in (ran := await triggerstream(*words, *more)).err:
            pass
    assert ran.status == status, ran.err
    return ran
