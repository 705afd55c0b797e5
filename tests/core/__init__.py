"""Examples and laws of the fold."""
