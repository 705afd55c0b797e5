"""The outside: one adapter for each framework that a port of the engine can stand on."""
