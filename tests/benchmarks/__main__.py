"""``make bench``: measures, prints the table, and writes the same rows to ``build/bench.json``."""

from __future__ import annotations

import platform
import sys
from os import cpu_count
from pathlib import Path

from tests.benchmarks import backtest, core, embedded, kafka, kafka_long, latency, plain, timers, web
from tests.benchmarks.rows import table, write

BENCHMARKS = {
    "core": core.run,
    "plain": plain.run,
    "timers": timers.run,
    "backtest": backtest.run,
    "embedded": embedded.run,
    "latency": latency.run,
    "kafka": kafka.run,
}
LONG = {"kafka-long": kafka_long.run, "web": web.run}
"""Run where they are named, not with the others: each takes minutes."""


def main(chosen: list[str]) -> None:
    """Run the benchmarks named on the command line, or all but the long ones."""
    print(
        f"{platform.machine()}, {cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    )
    known = BENCHMARKS | LONG
    rows = [row for name in chosen or BENCHMARKS for row in known[name]()]
    print(table(rows))
    write(rows, Path("build/bench.json"))


if __name__ == "__main__":
    main(sys.argv[1:])
