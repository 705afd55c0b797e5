"""Delivers the files of two customers: five of the first, four of the second.

Run it beside `triggerstream dev nightly.json --celery batch.tasks:app`.
"""

import sys

from triggerstream import SyncClient
from triggerstream.core.errors import TriggerstreamError

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8777"

try:
    with SyncClient(address, source="deliveries") as client:
        for name in "abcde":
            client.fire("acme/2026-03-01", "fileArrived", {"name": name})
            if name != "e":
                client.fire("bolt/2026-03-01", "fileArrived", {"name": name})
except TriggerstreamError as exc:
    sys.exit(f"cannot fire: {exc}")
