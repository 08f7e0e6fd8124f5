"""Given processes whose clocks differ, what one has told an app that it accepts, another takes."""

from datetime import timedelta
from uuid import uuid4

import orjson

from services.plans.api.events import DECODER, TOPIC, _check
from shared.arrivals import read_arrivals
from shared.auth import Principal
from shared.clock import wall_now
from shared.events.codec import encode
from tests.shared.delivery.books import Record
from tests.shared.delivery.probe import pain

APP = Principal(subject=uuid4(), roles=frozenset({"app"}))


def test_an_event_of_a_phone_that_is_ahead_is_taken_by_whoever_reads_it() -> None:
    now = wall_now()
    event = pain(uuid4(), 3).model_copy(update={"time": now + timedelta(minutes=4, seconds=30)})
    entry = _check(0, orjson.loads(encode(event)), principal=APP, now=now)
    assert entry.problem is None  # answered 202 once Kafka has it
    record = Record(0, 0, str(event.subject).encode(), entry.value, int(now.timestamp() * 1000))
    behind = now - timedelta(minutes=1)
    (arrival,) = read_arrivals([record], decoder=DECODER, group="plans.activity", topic=TOPIC, now=behind, wall=behind)
    assert arrival.fault is None
