"""Names the cause if a broker refuses a client: its TLS, its account or its password."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from triggerstream.adapters.kafka.security import Security

_TRY_S = 5.0


async def refusal(host: str, port: int, *, security: Security, client_id: str) -> str | None:
    """The broker's reason to refuse a client, and what would be right; None: it accepts it, or is not there.

    Raises:
        UsageError: certificates or a password cannot be read.
    """
    options = security.options()
    connection = AIOKafkaConnection(
        host, port, client_id=client_id, request_timeout_ms=round(_TRY_S * 1000), **options
    )
    source = security.source
    try:
        async with asyncio.timeout(_TRY_S):
            await connection.connect()
            await connection.send(MetadataRequest([]))
    except ssl.SSLCertVerificationError as exc:
        return f"has a certificate that is not trusted ({exc.verify_message}): see /tls/ca in {source}"
    except ssl.SSLError as exc:
        return f"does not agree on TLS ({exc.reason}): name its TLS listener's port, or see /tls in {source}"
    except (SaslAuthenticationFailed, IllegalSaslStateError):
        sasl = security.sasl
        assert sasl is not None  # noqa: S101 - for the type checker: who does not say who it is gets no such answer
        return f"does not take the password of {sasl.username} by {sasl.mechanism}: see /sasl in {source}"
    except UnsupportedSaslMechanismError:
        return f"does not offer the mechanism of /sasl in {source}"
    except KafkaConnectionError:
        return await _closed(host, port, security)
    except (OSError, KafkaError, TimeoutError):
        return None
    finally:
        connection.close()
    return None


async def _closed(host: str, port: int, security: Security) -> str | None:
    """The likely cause if a broker accepts a connection and closes it."""
    if security.tls is not None:
        return (
            "hangs up: it may ask for an account or for the client's certificate, "
            f"see /sasl and /tls/cert in {security.source}"
        )
    if not await _speaks_tls(host, port):
        return None
    where = f"in {security.source}" if security.source else "in a file, and name that with --kafka-config"
    return f'speaks TLS: write "tls": {{"ca": FILE}} {where}'


async def _speaks_tls(host: str, port: int) -> bool:
    """True if a server at this address speaks TLS. Nothing is sent to it, so its identity does not matter."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(_TRY_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_TRY_S):
            await writer.wait_closed()
    return True
