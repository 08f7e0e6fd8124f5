"""docs/reference/events.md: every event with its fields, who publishes and who consumes it, and an example."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from deploy.contracts.examples import EXAMPLES
from deploy.contracts.schemas import event_schema
from deploy.contracts.tables import code, page, table
from shared.events.catalogue import EVENTS, TOPIC_OF_TYPE, TOPICS
from shared.events.codec import encode
from shared.events.envelope import EVENT_SIZE_MAX, CloudEvent, event_type

Schema = Mapping[str, Any]

_INTRODUCTION = f"""\
Every event is a CloudEvent 1.0 of at most {EVENT_SIZE_MAX:,} bytes. `source` and `id` together are its identity;
`subject` and the key of its record are the member's random UUID. The schemas are in [schemas/](schemas/), topics in
[topics.md](topics.md), the whole as AsyncAPI in [asyncapi.yaml](asyncapi.yaml)."""

_CHANGING = """\
A class in `shared/events/` is the contract; everything on this page is made from it.

- **A minor change** (a new optional field, a new word of a closed list, a wider limit): raise the event's `MINOR`, run
  `python -m deploy.contracts.generate --accept`. Deploy every service that reads the event before the first that
  writes the new version: readers ignore new fields, but refuse a word or a value that they do not know.
- **Anything else** (a field removed, renamed, now required, narrowed or of another type or meaning) is breaking and
  `--accept` refuses it. Make it a new major version: a new `type`, and in `shared/events/upcasters.py` a function that
  makes the new version of an old event. Handlers, replay and rehearsal then know the new one only.
- **Golden files** (`tests/golden/events/`) are never changed: they are events as they were once written."""


def events_page() -> str:
    """The page as Markdown."""
    return page(
        "Events",
        _INTRODUCTION,
        table(
            ("event", "published by", "consumed by", "what it says"),
            [
                (f"[{event.NAME}](#{_anchor(event)})", topic.publisher, ", ".join(topic.consumers), _what(event))
                for topic in TOPICS
                for event in topic.events
            ],
        ),
        "## The envelope",
        _fields({"properties": _envelope(), "required": event_schema(next(iter(EVENTS.values())))["required"]}, {}),
        *(_section(event) for event in EVENTS.values()),
        "## Changing a contract",
        _CHANGING,
    )


def _section(event: type[CloudEvent]) -> str:
    schema = event_schema(event)
    example = orjson.dumps(orjson.loads(encode(EXAMPLES[event_type(event)])), option=orjson.OPT_INDENT_2).decode()
    return "\n\n".join(
        [
            f"## {event.NAME}",
            f"{_what(event)} On {code(TOPIC_OF_TYPE[event_type(event)].name)}, as {code(event_type(event))}; "
            f"[schema](schemas/{event.NAME}.v{event_type(event).rsplit('.v', 1)[1]}.json).",
            _fields(_resolve(schema["properties"]["data"], schema["$defs"]), schema["$defs"]),
            f"<details><summary>Example</summary>\n\n```json\n{example}\n```\n\n</details>",
        ]
    )


def _what(event: type[CloudEvent]) -> str:
    return " ".join((event.__doc__ or "").split())


def _anchor(event: type[CloudEvent]) -> str:
    return event.NAME.replace(".", "")


def _envelope() -> dict[str, Any]:
    properties = event_schema(next(iter(EVENTS.values())))["properties"]
    return {
        **{name: member for name, member in properties.items() if name != "data"},
        "type": {"type": "string", "description": "Such as org.careloop.session.completed.v1."},
    }


def _fields(schema: Schema, definitions: Schema) -> str:
    return table(
        ("field", "", "values", "meaning"),
        [(code(path), "required" if required else "", values, what) for path, required, values, what in
         _rows(schema, definitions, "")],
    )  # fmt: skip


def _rows(schema: Schema, definitions: Schema, path: str) -> Iterator[tuple[str, bool, str, str]]:
    for name, member in schema["properties"].items():
        inner, kind = _inner(member, definitions)
        where = f"{path}{name}{kind}"
        yield (
            where,
            name in schema.get("required", ()),
            _values(member, definitions),
            str(member.get("description", "")),
        )
        if "properties" in inner:
            yield from _rows(inner, definitions, f"{where}.")


def _inner(member: Schema, definitions: Schema) -> tuple[Schema, str]:
    """The object that a member holds, if any, and `[]` where it is a list of them."""
    for choice in member.get("anyOf", [member]):
        found = _resolve(choice, definitions)
        if "properties" in found:
            return found, ""
        if found.get("type") == "array":
            return _resolve(found["items"], definitions), "[]"
    return member, ""


def _resolve(schema: Schema, definitions: Schema) -> Schema:
    return definitions[schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema


def _values(member: Schema, definitions: Schema) -> str:
    schema = _resolve(member, definitions)
    if "anyOf" in schema:
        return " or ".join(_values(choice, definitions) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return ", ".join(code(word) for word in schema["enum"])
    if schema["type"] == "array":
        return f"{_span(schema, 'Items') or 'any number'} of: {_values(schema['items'], definitions)}"
    if schema["type"] in ("integer", "number"):
        return f"{schema['type']} {_span(schema, 'imum')}".strip()
    if "properties" in schema:
        return "object"
    limits = f"{_span(schema, 'Length')} characters" if _span(schema, "Length") else ""
    pattern = code(schema["pattern"]) if schema.get("pattern") else ""
    return ", ".join(part for part in (schema.get("format", schema["type"]), limits, pattern) if part)


def _span(schema: Schema, suffix: str) -> str:
    low, high = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if low is None and high is None:
        return ""
    if low is None:
        return f"up to {high}"
    return f"at least {low}" if high is None else f"{low}-{high}"
