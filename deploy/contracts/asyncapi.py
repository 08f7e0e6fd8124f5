"""The AsyncAPI 3 document, made from the catalogue.

Not FastStream's own: of a batch subscriber it says `type: array`, which is not what is on the wire, and it knows
neither binary mode nor CloudEvents' correlation.
"""

from typing import Any, Final

from deploy.contracts.access import service_of
from deploy.contracts.examples import EXAMPLES
from deploy.contracts.schemas import data_schema, event_schema
from shared.events.catalogue import APPS, EVENTS, TOPICS, Topic
from shared.events.codec import STRUCTURED
from shared.events.envelope import EVENT_SIZE_MAX, CloudEvent, event_type, schema_uri
from shared.topics import topic_settings

PRODUCTION_REPLICAS: Final = 3
BINARY: Final = "application/json"
_KEY: Final[dict[str, Any]] = {
    "type": "string",
    "format": "uuid",
    "description": "The member's UUID as text in UTF-8; equal to the event's `subject`.",
}
_STRUCTURED_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"content-type": {"type": "string", "const": STRUCTURED}},
}
_OWN: Final = ("type", "data")
"""What differs from event to event; the rest is the envelope."""
_NO_HEADERS: Final = (*_OWN, "datacontenttype")
_DESCRIPTION: Final = f"""\
Events of Careloop. All are CloudEvents 1.0 on Kafka.

**Identity.** `source` and `id` together. Sending an event again with the same content is harmless; the same identity
with another content is refused.

**Key and partition.** The key of a record is the member's UUID as text, equal to `subject`, so that the events of one
member stay in order. Partitions are chosen by **murmur2** over the key's bytes, the default of Kafka's Java client and
of aiokafka. **librdkafka (and clients built on it: confluent-kafka, node-rdkafka, confluent-kafka-go) defaults to
another: set `partitioner=murmur2_random`.** The number of partitions of a topic never changes. Topics have no order
between them.

**Modes.** Structured mode (`content-type: {STRUCTURED}`) is what Careloop writes. Binary mode (`content-type:
{BINARY}`, attributes as headers `ce_id`, `ce_source`, ...) is read too.

**Limits.** {EVENT_SIZE_MAX} bytes an event; `time` at most 5 minutes ahead and 30 days ago; no record without a value.

**Versions.** `type` holds the major version, `dataschema` the minor one. Readers ignore members they do not know:
within a major version only optional members, words of closed lists and wider limits are added.
"""


def asyncapi_document(*, version: str) -> dict[str, Any]:
    """The document as JSON values; `version` is that of the product."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:careloop",
        "info": {
            "title": "Careloop",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": STRUCTURED,
        "servers": _servers(),
        "channels": {_short(topic): _channel(topic) for topic in TOPICS},
        "operations": {name: operation for topic in TOPICS for name, operation in _operations(topic).items()},
        "components": {
            "messages": {name: message for event in EVENTS.values() for name, message in _messages(event).items()},
            "messageTraits": {"keyedByMember": {"bindings": {"kafka": {"key": _KEY, "bindingVersion": "0.5.0"}}}},
            "schemas": _schemas(),
            "securitySchemes": {
                "scram": {"type": "scramSha512", "description": "One user a principal; see access.md for its rules."}
            },
        },
    }


def _servers() -> dict[str, Any]:
    return {
        "production": {
            "host": "{bootstrap}",
            "protocol": "kafka-secure",
            "description": "The clinic's own cluster, over TLS.",
            "variables": {"bootstrap": {"description": "host:port, comma separated"}},
            "security": [{"$ref": "#/components/securitySchemes/scram"}],
        },
        "local": {"host": "127.0.0.1:8492", "protocol": "kafka", "description": "What `make up` starts."},
    }


def _short(topic: Topic) -> str:
    return topic.name.removeprefix("careloop.")


def _channel(topic: Topic) -> dict[str, Any]:
    settings = topic_settings(topic, replication=PRODUCTION_REPLICAS)
    names = [name for event in topic.events for name in _messages(event)]
    return {
        "address": topic.name,
        "title": topic.name,
        "description": topic.why.capitalize() + ".",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": PRODUCTION_REPLICAS,
                "topicConfiguration": {
                    "cleanup.policy": [settings["cleanup.policy"]],
                    "retention.ms": int(settings["retention.ms"]),
                    "max.message.bytes": int(settings["max.message.bytes"]),
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operations(topic: Topic) -> dict[str, Any]:
    channel = f"#/channels/{_short(topic)}"
    names = [name for event in topic.events for name in _messages(event)]
    operations: dict[str, Any] = {}
    for writer in topic.writers:
        ours = writer != APPS
        operations[f"{writer}.publishes.{_short(topic)}"] = {
            "action": "send",
            "channel": {"$ref": channel},
            "summary": f"{writer.capitalize()} publish{'es' if ours else ''} {topic.name}.",
            "messages": [
                {"$ref": f"{channel}/messages/{name}"} for name in names if not (ours and name.endswith(".binary"))
            ],
        }
    for group in topic.consumers:
        operations[f"{group}.consumes"] = {
            "action": "receive",
            "channel": {"$ref": channel},
            "summary": f"{service_of(group).capitalize()} consumes {topic.name} in the group {group}.",
            "messages": [{"$ref": f"{channel}/messages/{name}"} for name in names],
            "bindings": {
                "kafka": {"groupId": {"type": "string", "enum": [group]}, "bindingVersion": "0.5.0"},
            },
        }
    return operations


def _messages(event: type[CloudEvent]) -> dict[str, Any]:
    """An event's two messages: structured under its name, binary beside it."""
    shared: dict[str, Any] = {
        "title": event.__name__,
        "summary": (event.__doc__ or "").strip(),
        "traits": [{"$ref": "#/components/messageTraits/keyedByMember"}],
    }
    example = EXAMPLES[event_type(event)].model_copy(update={"dataschema": schema_uri(event)})
    structured = {
        "name": event.NAME,
        "contentType": STRUCTURED,
        **shared,
        "correlationId": {"location": "$message.payload#/correlationid"},
        "headers": {"$ref": "#/components/schemas/StructuredHeaders"},
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
        "examples": [{"name": event.NAME, "payload": example.model_dump(mode="json", exclude_none=True)}],
    }
    binary = {
        "name": f"{event.NAME} (binary mode)",
        "contentType": BINARY,
        **shared,
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "headers": _binary_headers(event),
        "payload": {"$ref": f"#/components/schemas/{event.__name__}Data"},
    }
    return {event.NAME: structured, f"{event.NAME}.binary": binary}


def _binary_headers(event: type[CloudEvent]) -> dict[str, Any]:
    return {
        "allOf": [{"$ref": "#/components/schemas/BinaryHeaders"}],
        "properties": {"ce_type": {"type": "string", "const": event_type(event)}},
    }


def _schemas() -> dict[str, Any]:
    """Every schema once, by name; references point to components, where AsyncAPI looks for them."""
    schemas: dict[str, Any] = {"StructuredHeaders": _STRUCTURED_HEADERS}
    for event in EVENTS.values():
        whole = event_schema(event)
        parts = {
            "Envelope": _envelope(whole),
            "BinaryHeaders": _attributes_as_headers(whole),
            **whole["$defs"],
            f"{event.__name__}Data": data_schema(event),
            event.__name__: {
                "title": event.__name__,
                "description": whole["description"],
                "type": "object",
                "allOf": [{"$ref": "#/components/schemas/Envelope"}],
                "properties": {name: whole["properties"][name] for name in _OWN},
                "required": list(_OWN),
            },
        }
        for name, part in parts.items():
            found = _referring_to_components({name: member for name, member in part.items() if name != "$defs"})
            if schemas.setdefault(name, found) != found:
                raise ValueError(f"two different schemas are called {name}")
    return schemas


def _envelope(whole: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": "Envelope",
        "description": "The attributes of CloudEvents that every event has.",
        "type": "object",
        "properties": {name: member for name, member in whole["properties"].items() if name not in _OWN},
        "required": [name for name in whole["required"] if name not in _OWN],
    }


def _attributes_as_headers(whole: dict[str, Any]) -> dict[str, Any]:
    attributes = {name: member for name, member in whole["properties"].items() if name not in _NO_HEADERS}
    return {
        "title": "BinaryHeaders",
        "description": "The attributes of an event in binary mode, each a header in UTF-8.",
        "type": "object",
        "properties": {
            "content-type": {"type": "string", "const": BINARY},
            "ce_type": {"type": "string"},
            **{f"ce_{name}": _without_null(member) for name, member in attributes.items()},
        },
        "required": ["content-type", "ce_type", *(f"ce_{name}" for name in whole["required"] if name in attributes)],
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A header that is not set is left out."""
    kept = {name: member for name, member in schema.items() if name not in ("anyOf", "default")}
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            kept |= choice
    return kept


def _referring_to_components(member: Any) -> Any:
    if isinstance(member, list):
        return [_referring_to_components(part) for part in member]
    if not isinstance(member, dict):
        return member
    return {
        name: part.replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _referring_to_components(part)
        for name, part in member.items()
    }
