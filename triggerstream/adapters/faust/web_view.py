"""Serves the web view of a worker: its inspector, its index of sessions and its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

from faust.assignor.partition_assignor import PartitionAssignor

from triggerstream.adapters.faust.app import WorkerApp
from triggerstream.adapters.faust.settings import WorkerSettings
from triggerstream.adapters.faust.web import WebListener
from triggerstream.adapters.kafka.owners_topic import read_owners
from triggerstream.adapters.kafka.reader import KafkaReader
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId
from triggerstream.engine.background import Background
from triggerstream.engine.queries.index import Index
from triggerstream.engine.queries.worker import WorkerInspector
from triggerstream.wire.marks import Identity


@asynccontextmanager
async def serve_web_view(
    app: WorkerApp,
    settings: WorkerSettings,
    *,
    identity: Identity,
    view: WebListener,
    index: Callable[[Path, int], Index],
) -> AsyncIterator[None]:
    """Serve the pages of ``app``. Enter before the app starts; leave after it has stopped.

    ``index`` creates an index in a file; its argument is the number of indexes that share memory. If the file
    is missing, the index is built again.
    """
    folder = settings.directory / f"{settings.app}-indexes"
    inspector = WorkerInspector(
        app.owner,
        app=settings.app,
        url=view.address,
        identity=identity,
        lag=lambda: {one.partition: one.lag for one in app.progress()},
        waiting=lambda: {one.partition: (one.lag or 0) - one.blocked for one in app.progress()},
        index=lambda number: index(folder / f"{number}.db", identity.partitions),
        appender=app.appender,
        reader=KafkaReader(settings.connection(), settings.app),
        claims=partial(read_owners, settings.connection(), settings.app),
    )
    app.serve_pages(view.pages(inspector, lambda: addresses_of_others(app)))
    following = Background(app.fail)
    following.start("indexes of sessions", inspector.run())
    try:
        yield
    finally:
        await following.close()
        await inspector.close()


def addresses_of_others(app: WorkerApp) -> Mapping[int, str]:
    """The announced addresses of other workers, by partition, from the group's last assignment."""
    changelog = Topics.of(AppId(app.conf.id)).changelog
    places = cast("PartitionAssignor", app.assignor)._tps_url  # noqa: SLF001 - Faust asks for one at a time only
    own = str(app.conf.canonical_url)
    return {place.partition: url for place, url in places.items() if place.topic == changelog and url != own}
