"""The survey of the demonstration: a tasks file and an ordinary Celery app, as data beside this module."""

from pathlib import Path

SURVEY = Path(__file__).with_name("survey")
"""Holds ``survey.json`` and the package ``my_app``: what a project of one's own would hold."""
