"""TLS and SASL in Faust's words."""

from __future__ import annotations

import faust
from faust.auth import Credentials

from triggerstream.adapters.kafka.security import Security


def credentials(security: Security) -> Credentials | None:
    """The credentials for Faust's clients: certificates and password as they are now.

    Raises:
        UsageError: they cannot be read.
    """
    context = security.context()
    if security.sasl is not None:
        return faust.SASLCredentials(
            username=security.sasl.username,
            password=security.password(),
            ssl_context=context,
            mechanism=security.sasl.mechanism,
        )
    return None if context is None else faust.SSLCredentials(context)
