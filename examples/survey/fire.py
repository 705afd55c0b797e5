"""What a survey's web application does: say what has happened, and nothing about what follows from it.

Run it beside `triggerstream dev survey.json --celery my_app.tasks:app`.
"""

import sys

from triggerstream import SyncClient

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8777"

with SyncClient(address, source="survey-app") as client:
    # In any order, from any machine, months apart: each is durable when `fire` returns.
    client.fire("participant-7", "module4Received", {"steps": [4210, 6120, 9874]})
    client.fire("participant-7", "module1Received", {"participant": "Ada"})
