"""The survey's application."""
