"""The processes and the narration of `dev` and `demo`."""
