"""The engine in one process: one log, one store, one dispatcher."""
