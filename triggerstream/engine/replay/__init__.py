"""Folding a log again: to check or rebuild what is stored, or to simulate."""
