"""Given bytes that are made to cost their reader much, then they are refused at once, and only they are."""

from time import process_time
from typing import Any

import orjson
import pytest

from deploy.contracts.examples import EXAMPLES
from shared.events.catalogue import TOPICS
from shared.events.codec import HEADERS, VALUES_MAX, Decoder, Undecodable, encode
from shared.events.envelope import EVENT_SIZE_MAX, CloudEvent, event_type

BINARY = [("content-type", b"application/json"), ("ce_specversion", b"1.0")]
FIELDS = [
    (Decoder(topic), event, name)
    for topic in TOPICS
    for event in topic.events
    for name in event.model_fields["data"].annotation.model_fields  # type: ignore[union-attr]
]
AT_ONCE_S = 1.0
"""Processor time; whoever looks at the rest of a text from each place in it takes minutes."""


def with_extra(event: CloudEvent, extra: bytes) -> bytes:
    return encode(event)[:-1] + b',"later":' + extra + b"}"


def refusal(decoder: Decoder, value: bytes, headers: Any = HEADERS) -> str:
    with pytest.raises(Undecodable) as caught:
        decoder.decode(value, headers)
    return f"{caught.value.reason}: {caught.value.detail}"


@pytest.mark.parametrize("item", [b"0", b"{}", b"[]", b'""', b'{"a":0}'])
def test_very_many_values_are_refused_before_anybody_says_what_is_wrong_with_each(item: bytes) -> None:
    for decoder, event, name in FIELDS:
        raw = {"specversion": "1.0", "type": event_type(event), "data": {name: ...}}
        before, after = orjson.dumps(raw, default=lambda _: "here").split(b'"here"')
        many = b",".join([item] * ((EVENT_SIZE_MAX - len(before) - len(after) - 2) // (len(item) + 1)))
        assert refusal(decoder, before + b"[" + many + b"]" + after) == f"oversized: more than {VALUES_MAX} JSON values"


def most_values(schema: dict[str, Any], named: dict[str, Any]) -> int:
    """That a JSON value of this schema has room for, itself included."""
    if "$ref" in schema:
        return most_values(named[schema["$ref"].rpartition("/")[2]], named)
    if "anyOf" in schema:
        return max(most_values(one, named) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return 1 + int(schema["maxItems"]) * most_values(schema["items"], named)
    return 1 + sum(most_values(one, named) for one in schema.get("properties", {}).values())


def test_there_is_room_for_whatever_a_contract_allows() -> None:
    """Else a service could publish what no other reads."""
    schemas = [event.model_json_schema() for topic in TOPICS for event in topic.events]
    assert 1_000 < max(most_values(schema, schema.get("$defs", {})) for schema in schemas) < VALUES_MAX


@pytest.mark.parametrize("text", [b"[{," * 8_000, b'\\"[' * 9_000, b'\\\\\\",' * 8_000])
def test_what_is_in_a_text_is_no_value(text: bytes) -> None:
    event = EXAMPLES["org.careloop.pain.reported.v1"]
    decoder = next(decoder for decoder, cls, _ in FIELDS if cls is type(event))
    assert decoder.decode(with_extra(event, b'"' + text + b'"'), HEADERS).id == event.id
    assert "JSON values" in refusal(decoder, with_extra(event, b'["' + text + b'"' + b",0" * VALUES_MAX + b"]"))


@pytest.mark.parametrize("value", [b'"\\"' + b'\\"' * 30_000, b'"' * 65_001, b'"a",' * 15_000, b'"' + b"\\" * 60_000])
def test_texts_that_never_end_are_passed_over_once(value: bytes) -> None:
    began = process_time()
    refusal(FIELDS[0][0], b"[{," * 1_000 + value)
    assert process_time() - began < AT_ONCE_S


@pytest.mark.parametrize("deep", [150, 210, 260, 1_000, 1_500])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_no_depth_raises_anything_but_undecodable(deep: int, opening: bytes, closing: bytes) -> None:
    event = EXAMPLES["org.careloop.pain.reported.v1"]
    decoder = next(decoder for decoder, cls, _ in FIELDS if cls is type(event))
    nested = opening * deep + b"0" + closing * deep
    if deep > 200:
        refusal(decoder, with_extra(event, nested))
    refusal(decoder, with_extra(event, nested).replace(b'"specversion":"1.0",', b""))
    refusal(decoder, nested, BINARY)


def count_values(read: Any) -> int:
    children = read.values() if isinstance(read, dict) else read if isinstance(read, list) else ()
    return 1 + sum(map(count_values, children))


@pytest.mark.parametrize("more", [0, 1])
def test_one_value_too_many(more: int) -> None:
    event = EXAMPLES["org.careloop.pain.reported.v1"]
    within = count_values(orjson.loads(encode(event))) - 1
    items = VALUES_MAX - within - 1 + more
    value = with_extra(event, b"[" + b",".join([b"0"] * items) + b"]")
    decoder = next(decoder for decoder, cls, _ in FIELDS if cls is type(event))
    if more:
        assert refusal(decoder, value) == f"oversized: more than {VALUES_MAX} JSON values"
    else:
        assert decoder.decode(value, HEADERS).id == event.id
