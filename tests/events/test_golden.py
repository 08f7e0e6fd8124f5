"""Golden files: events as they were once written. They are never changed; they must be read for ever.

A new major version gets a new file beside the old one (`plan.issued.v2.json`), which from then on goes through an
upcaster; a new minor one too (`plan.issued.v1.1.json`), and the old one reads as an event without what came later.
"""

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from deploy.contracts.examples import EXAMPLES
from shared.events.catalogue import EVENTS, TOPIC_OF_TYPE
from shared.events.codec import HEADERS, Decoder, encode
from shared.events.envelope import CloudEvent, Record, event_type, schema_uri

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
FILES = sorted(GOLDEN.glob("*.json"))


def test_every_event_has_a_golden_file_of_the_version_that_is_written_now() -> None:
    written = {orjson.loads(path.read_bytes())["dataschema"] for path in FILES}
    assert {schema_uri(event) for event in EVENTS.values()} <= written


def without_what_came_later(example: CloudEvent, data: Mapping[str, object]) -> Record:
    fields: Record = example.data
    later = {name: field.default for name, field in type(fields).model_fields.items() if name not in data}
    return fields.model_copy(update=later)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_reads_as_the_event_that_was_written(path: Path) -> None:
    written = orjson.loads(path.read_bytes())
    example = EXAMPLES[written["type"]]
    read = Decoder(TOPIC_OF_TYPE[event_type(type(example))]).decode(path.read_bytes(), list(HEADERS))

    data = without_what_came_later(example, written["data"])
    assert read == example.model_copy(update={"dataschema": written["dataschema"], "data": data})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_is_written_back_as_it_was(path: Path) -> None:
    written = orjson.loads(path.read_bytes())
    again = orjson.loads(encode(Decoder(TOPIC_OF_TYPE[written["type"]]).decode(path.read_bytes(), list(HEADERS))))

    # A later minor version may add members at their default; it may not drop or change one.
    assert again["data"] | written["data"] == again["data"]
    assert {name: again[name] for name in written if name not in ("data", "dataschema")} == {
        name: written[name] for name in written if name not in ("data", "dataschema")
    }
