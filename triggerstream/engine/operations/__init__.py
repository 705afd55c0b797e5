"""Appends that operators and applications ask for: orders, redriven and rehomed records, events."""
