"""Requests of Kafka's protocol that aiokafka lacks, or has only in versions that are too old.

Each constant is one version of a request, with the schema of its answer. :class:`Call` sends one.
"""

from __future__ import annotations

import uuid
from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Array,
    Boolean,
    Bytes,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

_UUID_BYTES = 16
_TEXT = String("utf-8")
_COMPACT_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


class _Uuid(AbstractType[uuid.UUID]):  # type: ignore[misc] # aiokafka is not typed
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(_UUID_BYTES))


class Call(Request[RequestStruct]):  # type: ignore[misc] # aiokafka is not typed
    """A request with the values of its fields."""

    API_KEY = -1

    def __init__(self, message: type[RequestStruct], **values: Any) -> None:  # noqa: ANN401 - by the schema
        self.API_KEY, self._CLASSES = message.API_KEY, (message,)
        self._values = values

    def build(self, request_struct_class: type[RequestStruct]) -> RequestStruct:
        return request_struct_class(**self._values)


def _message(
    key: int, version: int, *, request: Schema, answer: Schema, flexible: bool = False
) -> type[RequestStruct]:
    """The class of a request in one version; ``flexible``: its fields may have tags."""
    common: dict[str, object] = {"API_KEY": key, "API_VERSION": version}
    response = type("Answer", (Response,), {**common, "SCHEMA": answer})
    own = {"SCHEMA": request, "RESPONSE_TYPE": response, "FLEXIBLE_VERSION": flexible}
    return type("Message", (RequestStruct,), {**common, **own})


METADATA = _message(
    3,
    12,
    flexible=True,
    request=Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _COMPACT_TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    ),
    answer=Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _COMPACT_TEXT), ("port", Int32), ("rack", _COMPACT_TEXT), _TAGS
            ),
        ),
        ("cluster_id", _COMPACT_TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _COMPACT_TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
)
"""Metadata with ids of topics, of Kafka 3.1 and later."""

HEARTBEAT = _message(
    12,
    3,
    request=Schema(
        ("group_id", _TEXT), ("generation_id", Int32), ("member_id", _TEXT), ("group_instance_id", _TEXT)
    ),
    answer=Schema(("throttle_time_ms", Int32), ("error_code", Int16)),
)
"""Heartbeat of a static member, of Kafka 2.4 and later."""

LEAVE_GROUP = _message(
    13,
    3,
    request=Schema(
        ("group_id", _TEXT), ("members", Array(("member_id", _TEXT), ("group_instance_id", _TEXT)))
    ),
    answer=Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("members", Array(("member_id", _TEXT), ("group_instance_id", _TEXT), ("error_code", Int16))),
    ),
)
"""LeaveGroup of static members; an empty member id means any process with the name."""

DESCRIBE_GROUPS = _message(
    15,
    4,
    request=Schema(("groups", Array(_TEXT)), ("include_authorized_operations", Boolean)),
    answer=Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group_id", _TEXT),
                ("state", _TEXT),
                ("protocol_type", _TEXT),
                ("protocol", _TEXT),
                (
                    "members",
                    Array(
                        ("member_id", _TEXT),
                        ("group_instance_id", _TEXT),
                        ("client_id", _TEXT),
                        ("client_host", _TEXT),
                        ("metadata", Bytes),
                        ("assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    ),
)
"""DescribeGroups with the names of static members."""

RENEW_PRODUCER_ID = _message(
    22,
    5,
    flexible=True,
    request=Schema(
        ("transactional_id", _COMPACT_TEXT),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    ),
    answer=Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    ),
)
"""InitProducerId with the producer id and epoch that the coordinator must have (KIP-360), of Kafka 3.8 and
later: those also refuse late records of an earlier transaction (KIP-890)."""

CHANGE_SETTINGS = _message(
    44,
    0,
    request=Schema(
        (
            "resources",
            Array(
                ("kind", Int8),
                ("name", _TEXT),
                ("settings", Array(("name", _TEXT), ("operation", Int8), ("value", _TEXT))),
            ),
        ),
        ("validate_only", Boolean),
    ),
    answer=Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(("error_code", Int16), ("error_message", _TEXT), ("kind", Int8), ("name", _TEXT)),
        ),
    ),
)
"""IncrementalAlterConfigs. aiokafka's AlterConfigs resets all settings that it does not name."""

DESCRIBE_TRANSACTIONS = _message(
    65,
    0,
    flexible=True,
    request=Schema(("transactional_ids", CompactArray(_COMPACT_TEXT)), _TAGS),
    answer=Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _COMPACT_TEXT),
                ("state", _COMPACT_TEXT),
                ("timeout_ms", Int32),
                ("start_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(("name", _COMPACT_TEXT), ("partitions", CompactArray(Int32)), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
)
"""DescribeTransactions, of Kafka 3.0 and later. The right to write under an id suffices for it."""

DESCRIBE_PRODUCERS = _message(
    61,
    0,
    flexible=True,
    request=Schema(
        ("topics", CompactArray(("name", _COMPACT_TEXT), ("partitions", CompactArray(Int32)), _TAGS)), _TAGS
    ),
    answer=Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _COMPACT_TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", _COMPACT_TEXT),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_begin", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
)
"""DescribeProducers, of Kafka 2.8 and later."""
