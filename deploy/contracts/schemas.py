"""JSON Schemas of the events, as who reads or writes them in another language needs them."""

from typing import Any

from pydantic import BaseModel

from shared.events.envelope import CloudEvent, schema_uri

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ATTRIBUTES_SENT = ("specversion", "id", "source", "type", "time", "subject", "data")
"""Members that every event has on the wire; our own classes have defaults for some."""


def event_schema(event: type[CloudEvent]) -> dict[str, Any]:
    """The schema of a whole event in structured mode, self-contained; its `$id` is the event's `dataschema`."""
    schema = _open(event.model_json_schema())
    schema["properties"]["type"].pop("default", None)
    schema["properties"]["specversion"].pop("default", None)
    schema["required"] = list(ATTRIBUTES_SENT)
    return {"$schema": DIALECT, "$id": schema_uri(event), **schema}


def data_schema(event: type[CloudEvent]) -> dict[str, Any]:
    """The schema of an event's data alone: the value of a record in binary mode."""
    data = event.model_fields["data"].annotation
    assert isinstance(data, type)
    assert issubclass(data, BaseModel)
    return _open(data.model_json_schema())


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """Building refuses fields that are not declared, reading ignores them: what is published must allow them, or a
    reader would refuse a newer minor version. Titles that only repeat a name are dropped."""
    return {
        name: {inner: _open(child) for inner, child in member.items()}
        if name in ("properties", "$defs")
        else _open_value(member)
        for name, member in schema.items()
        if name != "additionalProperties" and not (name == "title" and "properties" not in schema)
    }


def _open_value(member: Any) -> Any:
    if isinstance(member, dict):
        return _open(member)
    if isinstance(member, list):
        return [_open_value(part) for part in member]
    return member
