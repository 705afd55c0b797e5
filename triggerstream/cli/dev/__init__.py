"""The processes and the output of `dev` and `demo`."""
