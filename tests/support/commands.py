"""Commands that run to their end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

END_S = 60.0


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def row(self) -> dict[str, Any]:
        """Standard output as one JSON line."""
        (row,) = self.rows()
        return row


async def triggerstream(*words: str, **environment: str) -> Ran:
    """Run a command of ours as a process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "triggerstream", *words),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(END_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())
