"""One suite for each port: its promises as tests, run on every adapter.

An adapter is added to the parameters of a suite's fixture, or to `places` if its port needs an engine that
has folded something. What only one adapter does is tested in `tests/adapters`.
"""
