"""Strict schemas of the resources that operators bring, so that a typo is a field too many."""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": [*required],
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _one(*values: str) -> Schema:
    return {"enum": [*values]}


_RESOURCE = _object(
    {
        "type": _one("topic", "group", "transactionalId"),
        "name": _TEXT,
        "patternType": _one("literal", "prefix"),
    }
)
_OPERATIONS = _one(
    *("Read", "Write", "Create", "Delete", "Alter", "Describe", "ClusterAction", "AlterConfigs"),
    *("DescribeConfigs", "IdempotentWrite", "All"),
)
_TOPIC = _object({"partitions": _COUNT, "replicas": _COUNT, "config": {"type": "object"}})
_USER = _object(
    {
        "authentication": _object({"type": _one("tls", "tls-external", "scram-sha-512")}),
        "authorization": _object(
            {
                "type": _one("simple"),
                "acls": _list(_object({"resource": _RESOURCE, "operations": _list(_OPERATIONS)})),
            }
        ),
    }
)
_EXPRESSION = _object({"key": _TEXT, "operator": _one("In"), "values": _list(_TEXT)})
_POD_MONITOR = _object(
    {
        "selector": _object({"matchLabels": _TEXTS}, {"matchExpressions": _list(_EXPRESSION)}),
        "podMetricsEndpoints": _list(
            _object({"port": _TEXT, "path": _TEXT}, {"interval": _TEXT, "scrapeTimeout": _TEXT})
        ),
    }
)
_RULE = _object({"alert": _TEXT, "expr": _TEXT, "labels": _TEXTS, "annotations": _TEXTS}, {"for": _TEXT})
_RULES = _object({"groups": _list(_object({"name": _TEXT, "rules": _list(_RULE)}))})
_SCALING = _object(
    {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "policies": _list(
            _object(
                {
                    "type": _one("Pods", "Percent"),
                    "value": _COUNT,
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                }
            )
        ),
    }
)
_KAFKA_TRIGGER = _object(
    {"bootstrapServers": _TEXT, "consumerGroup": _TEXT, "topic": _TEXT, "lagThreshold": _TEXT},
    {
        "activationLagThreshold": _TEXT,
        "allowIdleConsumers": _one("true", "false"),
        "tls": _one("enable", "disable"),
    },
)
_SCALED_OBJECT = _object(
    {
        "scaleTargetRef": _object({"name": _TEXT}),
        "minReplicaCount": {"type": "integer", "minimum": 0},
        "maxReplicaCount": _COUNT,
        "triggers": _list(
            _object(
                {"type": _one("kafka"), "metadata": _KAFKA_TRIGGER},
                {"authenticationRef": _object({"name": _TEXT})},
            )
        ),
    },
    {
        "pollingInterval": _COUNT,
        "fallback": _object({"failureThreshold": _COUNT, "replicas": _COUNT}),
        "advanced": _object(
            {
                "horizontalPodAutoscalerConfig": _object(
                    {"behavior": _object({"scaleDown": _SCALING}, {"scaleUp": _SCALING})}
                )
            }
        ),
    },
)
_AUTHENTICATION = _object(
    {"secretTargetRef": _list(_object({"parameter": _TEXT, "name": _TEXT, "key": _TEXT}))}
)


def _resource(version: str, kind: str, spec: Schema) -> Schema:
    metadata = _object({"name": _TEXT, "namespace": _TEXT, "labels": _TEXTS})
    return _object({"apiVersion": _one(version), "kind": _one(kind), "metadata": metadata, "spec": spec})


_SPECS = {
    ("kafka.strimzi.io/v1", "KafkaTopic"): _TOPIC,
    ("kafka.strimzi.io/v1", "KafkaUser"): _USER,
    ("kafka.strimzi.io/v1beta2", "KafkaTopic"): _TOPIC,
    ("kafka.strimzi.io/v1beta2", "KafkaUser"): _USER,
    ("monitoring.coreos.com/v1", "PodMonitor"): _POD_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _RULES,
    ("keda.sh/v1alpha1", "ScaledObject"): _SCALED_OBJECT,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): _AUTHENTICATION,
}
SCHEMAS = {(version, kind): _resource(version, kind, spec) for (version, kind), spec in _SPECS.items()}
"""By API version and kind."""
