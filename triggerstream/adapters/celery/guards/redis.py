"""Redis guard: a claim is one hash, changed by Lua scripts that the server executes atomically.

Leases are measured by the clock of the server. The effect and its record are not one transaction. If a worker
dies between the two, the command runs again. In all other cases it runs once. It never runs twice at the same
time, because a process that cannot renew its lease ends before the lease does. A server that loses data (no
AOF, eviction) loses claims too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from triggerstream.adapters.celery.guards import (
    DEFAULT_KEEP_S,
    DEFAULT_LEASE_S,
    MAX_TAKEOVERS,
    Busy,
    Claim,
    Exhausted,
    Granted,
    GuardUnavailableError,
    Settled,
)
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import CommandId

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
# ARGV: token, holder, lease in ms, keep in ms, take-overs allowed
_CLAIM = (
    _NOW
    + """
local was = redis.call('HMGET', KEYS[1], 'value', 'expires', 'takeovers')
if was[1] then return {'settled', was[1]} end
local takeovers = 0
if was[2] then
  local left = was[2] - now
  if left > 0 then return {'busy', left} end
  takeovers = was[3] + 1
  if takeovers > tonumber(ARGV[5]) then return {'exhausted'} end
end
redis.call('HSET', KEYS[1],
  'token', ARGV[1], 'holder', ARGV[2], 'expires', now + ARGV[3], 'takeovers', takeovers)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'granted'}
"""
)
# ARGV: token, lease in ms
_RENEW = (
    _NOW
    + """
local was = redis.call('HMGET', KEYS[1], 'value', 'token')
if was[1] then return 1 end
if was[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'expires', now + ARGV[2])
return 1
"""
)
# ARGV: value, keep in ms, token of the claim ('' if the caller has none)
_SETTLE = """
local was = redis.call('HMGET', KEYS[1], 'value', 'token')
if was[1] then return was[1] end
if ARGV[3] ~= '' and was[2] and was[2] ~= ARGV[3] then return false end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'value', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return ARGV[1]
"""
# ARGV: field that must match, its value, 'forget' or ''
_GIVE_BACK = """
local was = redis.call('HMGET', KEYS[1], 'value', ARGV[1])
if was[1] or was[2] ~= ARGV[2] then return 0 end
if ARGV[3] == 'forget' then redis.call('DEL', KEYS[1]) else redis.call('HSET', KEYS[1], 'expires', 0) end
return 1
"""


_PAUSE_S = 0.2


class RedisGuard:
    """A :class:`triggerstream.adapters.celery.guards.Guard` in Redis or Valkey.

    Args:
        server: a ``redis.Redis`` client, or a URL such as ``redis://127.0.0.1:6379/1``.
        lease_s: how long, after a worker died, no other worker runs its command.
        keep_s: how long a record is kept. It must be longer than any message of the command can exist.
        prefix: the prefix of all keys.
    """

    def __init__(
        self,
        server: Redis | str,
        *,
        lease_s: float = DEFAULT_LEASE_S,
        keep_s: float = DEFAULT_KEEP_S,
        prefix: str = "triggerstream:command:",
    ) -> None:
        self._client: Any = (
            Redis.from_url(server, socket_timeout=lease_s / 3, socket_connect_timeout=lease_s / 3)
            if isinstance(server, str)
            else server
        )
        self.lease_s = lease_s
        self._keep_ms = round(keep_s * 1_000)
        self._prefix = prefix
        register = self._client.register_script
        self._claim = register(_CLAIM)
        self._renew = register(_RENEW)
        self._settle = register(_SETTLE)
        self._give_back = register(_GIVE_BACK)

    def claim(self, command: CommandId, *, holder: str) -> Claim:
        token = uuid4().hex
        answer = self._run(
            self._claim, command, [token, holder, round(self.lease_s * 1_000), self._keep_ms, MAX_TAKEOVERS]
        )
        match _bytes(answer[0]):
            case b"granted":
                return Granted(held=_RedisHeld(self, command, token))
            case b"settled":
                return Settled(value=_bytes(answer[1]))
            case b"busy":
                return Busy(for_s=int(answer[1]) / 1_000)
            case _:
                return Exhausted()

    def conclude(self, command: CommandId, value: bytes) -> bytes:
        return _bytes(self._run(self._settle, command, [value, self._keep_ms, ""]))

    def recorded(self, command: CommandId) -> bytes | None:
        try:
            value = self._client.hget(self._prefix + command, "value")
        except RedisError as exc:
            raise GuardUnavailableError(f"the Redis guard: {exc}") from exc
        return None if value is None else _bytes(value)

    def lost(self, command: CommandId, *, holder: str) -> None:
        self._run(self._give_back, command, ["holder", holder, ""])

    # ---- used by the claims it grants ----

    def renew(self, command: CommandId, *, token: str) -> bool:
        """Extend the lease of the claim with ``token``. False: another process has taken it over."""
        return bool(self._run(self._renew, command, [token, round(self.lease_s * 1_000)]))

    def settle(self, command: CommandId, value: bytes, *, token: str) -> bytes:
        """Record ``value`` for the claim with ``token``. Returns the recorded value."""
        found = self._run(self._settle, command, [value, self._keep_ms, token])
        if found is None:
            raise GuardUnavailableError("the lease of this command is somebody else's by now")
        return _bytes(found)

    def give_back(self, command: CommandId, *, token: str, forget: bool) -> None:
        """End the lease of the claim with ``token``.

        Unless ``forget``, the next claim counts as a take-over.
        """
        self._run(self._give_back, command, ["token", token, "forget" if forget else ""])

    def _run(self, script: Any, command: CommandId, arguments: Sequence[object]) -> Any:  # noqa: ANN401 - Lua's values
        try:
            return script(keys=[self._prefix + command], args=arguments)
        except RedisError as exc:
            raise GuardUnavailableError(f"the Redis guard: {exc}") from exc


class _RedisHeld:
    fatal_when_lost = True

    def __init__(self, guard: RedisGuard, command: CommandId, token: str) -> None:
        self.token = token
        self._guard = guard
        self._command = command

    def connection(self) -> NoReturn:
        raise UsageError("current().connection: the Redis guard has no transaction; SqlGuard has")

    def renew(self) -> bool:
        return self._guard.renew(self._command, token=self.token)

    def settle(self, value: bytes) -> bytes:
        # The effect is there: only a record keeps the command from being run again. As long as this process
        # lives, so does its lease.
        deadline = time.monotonic() + self._guard.lease_s
        while True:
            try:
                return self._guard.settle(self._command, value, token=self.token)
            except GuardUnavailableError:
                if time.monotonic() + _PAUSE_S >= deadline:
                    raise
                time.sleep(_PAUSE_S)

    undo = settle

    def release(self) -> None:
        with suppress(GuardUnavailableError):
            self._guard.give_back(self._command, token=self.token, forget=True)

    def abandon(self) -> None:
        with suppress(GuardUnavailableError):
            self._guard.give_back(self._command, token=self.token, forget=False)


def _bytes(value: Any) -> bytes:  # noqa: ANN401 - text if the client decodes responses
    return value if isinstance(value, bytes) else str(value).encode()
