"""The same log through every engine."""
