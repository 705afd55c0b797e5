"""The engine of a shared log: one partition at a time, owned by one process."""
