# ruff: noqa: INP001 - mounted by itself
"""The Celery app that the bridge publishes with: the broker's address comes from a file, routes go here."""

from pathlib import Path

from celery import Celery

_URL = Path("/etc/triggerstream/broker/url")

app = Celery("triggerstream-bridge", broker=_URL.read_text(encoding="utf-8").strip())
