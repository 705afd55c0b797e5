"""Fires what a shop's web application fires: one order that is paid, and one that is not.

Run it beside `triggerstream dev order.json --celery shop.tasks:app`.
"""

import sys

from triggerstream import SyncClient
from triggerstream.core.errors import TriggerstreamError

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8777"

try:
    with SyncClient(address, source="shop") as client:
        client.fire("order-1", "orderPlaced", {"item": "book"})
        client.fire("order-2", "orderPlaced", {"item": "pen"})
        client.fire("order-1", "orderPaid", {"amount": 30})
except TriggerstreamError as exc:
    sys.exit(f"cannot fire: {exc}")
