"""Bytes to values and back: events, the tasks file, state and commands."""
