"""Static members of consumer groups: listing them, leaving, and noticing a replacement.

aiokafka can join a group under a static name (``group.instance.id``), but its versions of LeaveGroup,
Heartbeat and DescribeGroups do not contain the name. Kafka has supported it since 2.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError, UnknownMemberIdError, for_code
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.structs import OffsetAndMetadata

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.protocol import DESCRIBE_GROUPS, HEARTBEAT, LEAVE_GROUP, Call
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.engine.operations.administration import GroupMember
from triggerstream.wire.json import loads

_T = TypeVar("_T")

FENCED_INSTANCE_ID = 82
"""FENCED_INSTANCE_ID: another process joined under the same static name. aiokafka has no class for it."""
LEAVE_S = 5.0
"""Maximum time that a stopping process waits for the answer to LeaveGroup; else its session times out."""
_RETRY_S = 0.2


class NameTakenError(UsageError):
    """Another process has joined the group under the same static name."""


def session_timeout_refused(session_timeout_s: float) -> UsageError:
    """The error of a process whose session timeout the brokers do not allow."""
    return UsageError(
        f"--session-timeout {session_timeout_s:g}s: the brokers refuse it: it must lie between their "
        "group.min.session.timeout.ms (6s by default) and group.max.session.timeout.ms (30m by default)"
    )


async def members_of(
    connection: Connection, group: str, *, topic: str, timeout_s: float
) -> tuple[str, Sequence[GroupMember]]:
    """The state of ``group`` in Kafka's words, and its members, sorted by name.

    Raises:
        LogError: the cluster cannot be reached.
    """

    async def ask(admin: AIOKafkaAdminClient, coordinator: int) -> tuple[str, Sequence[GroupMember]]:
        call = Call(DESCRIBE_GROUPS, groups=[group], include_authorized_operations=False)
        answer = await admin._send_request(call, coordinator)  # noqa: SLF001 - no public way
        ((code, _group, state, _type, _protocol, members, _operations),) = answer.groups
        if code:
            raise for_code(code)(group)
        found = [_member(member, topic=topic) for member in members]
        return state, sorted(found, key=lambda member: (member.name or "", member.id))

    async with translate_errors(f"cannot look at the group {group}", timeout_s=timeout_s):
        return await _of_coordinator(connection, group, ask)


def _member(told: tuple[str, str | None, str, str, bytes, bytes], *, topic: str) -> GroupMember:
    id_, name, client, host, metadata, assigned = told
    partitions: Collection[int] = ()
    if assigned:
        for of, numbers in ConsumerProtocol.ASSIGNMENT.decode(assigned).assignment:
            if of == topic:
                partitions = numbers
    return GroupMember(
        name=name,
        id=id_,
        client=client,
        host=host.removeprefix("/"),
        partitions=tuple(sorted(partitions)),
        url=_announced(metadata),
    )


def _announced(metadata: bytes) -> str | None:
    """The address of its pages in what a worker told its group; None: a bridge, or another program."""
    if not metadata:
        return None
    try:
        told = loads(ConsumerProtocol.METADATA.decode(metadata).user_data or b"null")
    except (DecodeError, ValueError):
        return None
    url = told.get("url") if isinstance(told, dict) else None
    return url if isinstance(url, str) else None


async def leave(
    connection: Connection, group: str, *, name: str, member_id: str = "", timeout_s: float = LEAVE_S
) -> bool:
    """Remove the static member ``name`` from ``group``; return whether it was a member.

    With a ``member_id``, only a process with this id is removed: another one that joined under the name
    stays.

    Raises:
        LogError: the cluster cannot be reached.
    """

    async def ask(admin: AIOKafkaAdminClient, coordinator: int) -> bool:
        answer = await admin._send_request(  # noqa: SLF001 - no public way
            Call(LEAVE_GROUP, group_id=group, members=[(member_id, name)]), coordinator
        )
        codes = [answer.error_code, *(code for _id, _name, code in answer.members)]
        for code in codes:
            if code in {UnknownMemberIdError.errno, FENCED_INSTANCE_ID}:
                return False
            if code:
                raise for_code(code)(group)
        return True

    async with translate_errors(f"cannot remove {name} from the group {group}", timeout_s=timeout_s):
        return await _of_coordinator(connection, group, ask)


async def group_offsets(
    connection: Connection, group: str, places: Sequence[TopicPartition] | None = None
) -> Mapping[TopicPartition, int]:
    """The offsets that ``group`` has committed, of ``places`` or of all.

    Raises:
        KafkaError: the cluster cannot be reached, or refuses.
    """
    commits = await group_commits(connection, group, places)
    return {place: int(at.offset) for place, at in commits.items()}


async def group_commits(
    connection: Connection, group: str, places: Sequence[TopicPartition] | None = None
) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """The offsets that ``group`` has committed, each with its metadata, of ``places`` or of all.

    Raises:
        KafkaError: the cluster cannot be reached, or refuses.
    """

    async def ask(
        admin: AIOKafkaAdminClient, _coordinator: int
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        found = await admin.list_consumer_group_offsets(group, partitions=places)
        return {place: at for place, at in found.items() if at.offset >= 0}

    return await _of_coordinator(connection, group, ask)


async def _of_coordinator(
    connection: Connection, group: str, ask: Callable[[AIOKafkaAdminClient, int], Awaitable[_T]]
) -> _T:
    """The result of ``ask`` with the coordinator of ``group``; retries while a new coordinator starts."""
    async with connection.running(connection.admin()) as admin:
        while True:
            try:
                return await ask(admin, await admin.find_coordinator(group))
            except KafkaError as exc:
                if not exc.retriable:
                    raise
                await asyncio.sleep(_RETRY_S)


def member_id(consumer: AIOKafkaConsumer) -> str:
    """The member id that the broker gave to ``consumer``; empty if it has none."""
    coordinator = getattr(consumer, "_coordinator", None)
    return str(getattr(coordinator, "member_id", "") or "")


def watch_name(consumer: AIOKafkaConsumer, fenced: Callable[[NameTakenError], None]) -> None:
    """Call ``fenced`` when another process has joined the group under the name of ``consumer``.

    ``consumer`` has started and is a static member. aiokafka's heartbeat does not contain the name, so the
    answer would be that the member is unknown, and the consumer would join again: two processes with one name
    would take the partitions from each other without end.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 - nothing public
    name = consumer._group_instance_id  # noqa: SLF001 - nothing public
    send = coordinator._send_req  # noqa: SLF001 - nothing public

    async def send_with_name(request: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
        if isinstance(request, HeartbeatRequest):
            request = Call(
                HEARTBEAT,
                group_id=coordinator.group_id,
                generation_id=coordinator.generation,
                member_id=coordinator.member_id,
                group_instance_id=name,
            )
        answer = await send(request)
        if getattr(answer, "error_code", 0) == FENCED_INSTANCE_ID:
            fenced(
                NameTakenError(
                    f"another process has joined the group {coordinator.group_id} as {name}: each process "
                    "needs its own name (--instance-id)"
                )
            )
        return answer

    coordinator._send_req = send_with_name  # noqa: SLF001 - nothing public
