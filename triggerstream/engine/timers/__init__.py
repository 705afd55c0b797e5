"""Timers: sessions by due time, and the service that appends timer events."""
