"""Events to publish, in the same transaction as the decision that made them.

The id of a produced event derives from what caused it, so that a decision made again after a restore is the same event.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pydantic import TypeAdapter

from shared.database import Connection
from shared.events.catalogue import TOPIC_OF_CLASS
from shared.events.codec import encode_made
from shared.events.envelope import EventId, Instant, SourceUri, Traceparent, derive_id
from shared.outcomes import Draft, Outcomes, Write, cause_of, service_source, step_of, trace_of
from shared.partitioning import key_of
from shared.writing import write

_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
_CAUSE: TypeAdapter[tuple[str, str, str, str | None]] = TypeAdapter(
    tuple[SourceUri, EventId, EventId, Traceparent | None]
)

# The values as lines of one text: for an array of as many bytes the driver asks for memory again at every kilobyte.
INSERT = """
insert into delivery.outbox (topic, member_id, value, key_hash, urgent)
select topic, member_id, convert_to(value, 'UTF8'), key_hash, place = any($5::bigint[])
from rows from (unnest($1::text[], $2::uuid[], $4::int[]), string_to_table(convert_from($3, 'UTF8'), E'\\n'))
    with ordinality as o(topic, member_id, key_hash, value, place)
order by place
"""


AGE = """
select extract(epoch from clock_timestamp() - created_at)::float8 from delivery.outbox order by outbox_id limit 1
"""


class OutboxRow(NamedTuple):
    topic: str
    member_id: UUID
    value: bytes
    """JSON in one line: in a text a line break is written as two signs."""
    key_hash: int
    """Kafka's hash of the member's key: by it the relay passes over the rows of a partition in its statement."""
    urgent: bool = False
    """Whether it is handed over beside the rest."""


def finish_events(
    drafts: Sequence[Draft], *, service: str, scope: str, now: datetime, urgent: bool = False
) -> list[OutboxRow]:
    """Give drafts their identity, time and place in the chain. `scope` is the consumer group or what else decided; all
    that a safety group decides is `urgent`.
    Raises for what no consumer could read: TooLarge (shared/events/codec.py), TypeError, pydantic.ValidationError."""
    ordinals: dict[tuple[str, str, str], int] = {}
    source = service_source(service)
    time = _INSTANT.dump_json(_INSTANT.validate_python(now, strict=True))
    rows: list[OutboxRow] = []
    for draft in drafts:
        cause, step, key = cause_of(draft.because), step_of(draft.because), key_of(draft.member_id)
        if step is not None:  # nobody has read the identity that a caller gave its command
            _CAUSE.validate_python(tuple(cause), strict=True)
        if draft.named is None:
            place = (step or scope, cause.source, cause.id)
            ordinals[place] = ordinal = ordinals.get(place, -1) + 1
            event_id = derive_id(f"{service} {place[0]} {cause.source} {cause.id} {ordinal}")
        else:
            event_id = draft.named.id
        value = encode_made(
            draft.event,
            draft.data,
            id=event_id,
            source=source,
            time=time,
            subject=key.raw,
            traceparent=trace_of(cause, event_id),
            chain=cause.chain,
            cause=(cause.source, cause.id),
        )
        rows.append(
            OutboxRow(TOPIC_OF_CLASS[draft.event].name, draft.member_id, value, key.hash, urgent or draft.urgent)
        )
    return rows


async def write_outcomes(
    connection: Connection, outcomes: Outcomes, *, service: str, scope: str, now: datetime, urgent: bool = False
) -> int:
    """Write what a decision leaves to be written, and its events in the order decided; how many. One statement. The
    caller holds their members' locks, unless they are `urgent`: what a safety group decides is in order by its
    partitions and overtakes everything else."""
    rows = finish_events(outcomes.published, service=service, scope=scope, now=now, urgent=urgent)
    await write(connection, [*outcomes.writes, inserting_rows(rows)])
    return len(rows)


def inserting_rows(rows: Sequence[OutboxRow]) -> Write | None:
    """Put rows in the outbox, in this order."""
    if not rows:
        return None
    topics, members, values, key_hashes, urgent = zip(*rows, strict=True)
    places = [place for place, hurries in enumerate(urgent, 1) if hurries]  # few, or all: a flag each would cost more
    return Write(INSERT, [topics, members, b"\n".join(values), key_hashes, places])


async def load_outbox_age(connection: Connection) -> float:
    """Seconds for which the oldest row has waited to be handed over; 0 where there is none."""
    return max(0.0, await connection.fetchval(AGE) or 0.0)
