"""The application of the contracts."""
