"""Golden files: events as they were once written. They are never changed; they must be read for ever.

A new major version gets a new file beside the old one, which from then on goes through an upcaster.
"""

from pathlib import Path

import orjson
import pytest

from deploy.contracts.examples import EXAMPLES
from deploy.contracts.generate import versioned_name
from shared.events.catalogue import EVENTS, TOPIC_OF_TYPE
from shared.events.codec import HEADERS, Decoder, encode
from shared.events.envelope import event_type

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
FILES = sorted(GOLDEN.glob("*.json"))


def test_every_event_has_its_golden_file() -> None:
    assert {versioned_name(event) for event in EVENTS.values()} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_reads_as_the_event_that_was_written(path: Path) -> None:
    written = orjson.loads(path.read_bytes())
    example = EXAMPLES[f"org.careloop.{path.stem}"]
    read = Decoder(TOPIC_OF_TYPE[event_type(type(example))]).decode(path.read_bytes(), list(HEADERS))

    assert read == example.model_copy(update={"dataschema": written["dataschema"]})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_is_written_back_as_it_was(path: Path) -> None:
    written = orjson.loads(path.read_bytes())
    again = orjson.loads(encode(Decoder(TOPIC_OF_TYPE[written["type"]]).decode(path.read_bytes(), list(HEADERS))))

    # A later minor version may add members at their default; it may not drop or change one.
    assert again["data"] | written["data"] == again["data"]
    assert {name: again[name] for name in written if name not in ("data", "dataschema")} == {
        name: written[name] for name in written if name not in ("data", "dataschema")
    }
