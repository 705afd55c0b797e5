"""The producers of ``examples/producers``, built and run: see :mod:`tests.support.producers.__main__`."""
