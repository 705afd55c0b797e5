"""The programs of ``examples/`` do what their pages say."""
