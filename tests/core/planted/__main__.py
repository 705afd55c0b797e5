"""Prints what random scenarios use and decide, and the first one that finds each planted fault."""

from __future__ import annotations

import click

from tests.core.logs_of_conditions import report
from tests.core.planted.search import found_in

SCENARIOS = 2_000

for name, share in report(SCENARIOS // 4).items():
    click.echo(f"{share:7.1%} {name}")
click.echo()
for name, n in sorted(found_in(SCENARIOS).items(), key=lambda one: one[1]):
    click.echo(f"{n:>7,} {name}")
