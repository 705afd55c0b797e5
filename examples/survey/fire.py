"""Fires two triggers, as a survey's web application does: it does not know which tasks follow from them.

Run it beside `triggerstream dev survey.json --celery my_app.tasks:app`.
"""

import sys

from triggerstream import SyncClient
from triggerstream.core.errors import TriggerstreamError

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8777"

try:
    with SyncClient(address, source="survey-app") as client:
        # In any order, from any machine, months apart: each event is durable when `fire` returns.
        client.fire("participant-7", "module4Received", {"steps": [4210, 6120, 9874]})
        client.fire("participant-7", "module1Received", {"participant": "Ada"})
except TriggerstreamError as exc:
    sys.exit(f"cannot fire: {exc}")
