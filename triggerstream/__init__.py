"""Runs a task once when the triggers it waits for have arrived: in any order, days apart, on any machine."""
