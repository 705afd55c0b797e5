"""Lines that a worker prints about itself."""

from __future__ import annotations

from functools import partial

from triggerstream.adapters.faust.app import WorkerApp
from triggerstream.engine.process_output import write_process_line

write_line = partial(write_process_line, "worker")


def print_progress(app: WorkerApp) -> None:
    """Print the progress of each partition: SIGUSR1 asks for it."""
    write_line(f"{'fetching' if app.fetching() else 'not fetching'}, rebalancing: {app.rebalancing}")
    for one in app.progress():
        partition = app.owner.partitions[one.partition]
        write_line(
            f"partition {one.partition}: {partition.phase.value}, next {partition.next}, "
            f"durable {partition.durable}, {partition.taken} batches in flight, lag {one.lag}, "
            f"{one.timers} timers, {one.counters}"
        )


def print_recovery(left: dict[int, tuple[int, int]]) -> None:
    """Print how far a recovery is: by partition, the records that are left, and all."""
    remaining = sum(remaining for remaining, _ in left.values())
    total = sum(total for _, total in left.values())
    if total:
        done = 100 * (total - remaining) // total
        write_line(f"recovering {len(left)} partitions: {done} %, {remaining:,} changelog records left")
