"""Draws up two contracts. Two people approve the first; the second is approved twice by one person.

Run it beside `triggerstream dev approval.json --celery contracts.tasks:app`.
"""

import sys

from triggerstream import SyncClient
from triggerstream.core.errors import TriggerstreamError

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8777"

try:
    with SyncClient(address, source="contracts") as client:
        client.fire("c1", "contractDrawnUp", {"title": "lease"})
        client.fire("c2", "contractDrawnUp", {"title": "loan"})
        client.fire("c1", "approved", {"by": "ann", "level": 2})
        client.fire("c1", "approved", {"by": "bob", "level": 3})
        client.fire("c2", "approved", {"by": "ann", "level": 2})
        client.fire("c2", "approved", {"by": "ann", "level": 2})
except TriggerstreamError as exc:
    sys.exit(f"cannot fire: {exc}")
