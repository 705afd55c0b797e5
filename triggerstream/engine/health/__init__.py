"""Figures of a process: alive, ready, lag, rates."""
