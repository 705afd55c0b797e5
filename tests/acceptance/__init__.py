"""The installed command line, in real processes."""
