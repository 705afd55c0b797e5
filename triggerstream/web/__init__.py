"""Read-only pages, the JSON API, probes and metrics."""
