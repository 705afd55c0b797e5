"""The order of effects, from reading a log to a durable checkpoint, behind ports."""
