"""Prints what random scenarios use and decide, and the first one that finds each planted fault.

The latter are written to ``found.json``, where the test looks first.
"""

from __future__ import annotations

import json

import click

from tests.core.logs_of_conditions import numbered_scenario, report
from tests.core.logs_of_time import numbered_timed_scenario, report_of_time
from tests.core.planted.faults import FAULTS
from tests.core.planted.faults_of_time import FAULTS_OF_TIME
from tests.core.planted.search import FOUND, found_in

SCENARIOS = 2_000

first: dict[str, int] = {}
for told, faults, scenario_of in (
    (report, FAULTS, numbered_scenario),
    (report_of_time, FAULTS_OF_TIME, numbered_timed_scenario),
):
    for name, share in told(SCENARIOS // 4).items():
        click.echo(f"{share:7.1%} {name}")
    click.echo()
    found = found_in(SCENARIOS, faults, scenario_of)
    first |= found
    for name, n in sorted(found.items(), key=lambda one: one[1]):
        click.echo(f"{n:>7,} {name}")
    click.echo()
FOUND.write_text(json.dumps(first, indent=2) + "\n")
