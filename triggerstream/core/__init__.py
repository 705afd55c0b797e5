"""The decisions: events, tasks, state and the fold that ties them, without any I/O."""
