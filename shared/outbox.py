"""Events to publish, in the same transaction as the decision that made them.

The id of a produced event derives from what caused it, so that a decision made again after a restore is the same event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from shared.database import Connection, Database
from shared.events.catalogue import TOPIC_OF_TYPE
from shared.events.codec import encode
from shared.events.envelope import NAMESPACE, CloudEvent, event_type
from shared.outcomes import Draft, cause_of, service_source, step_of, trace_of
from shared.partitioning import Partitioner

HASHES = 2**31
"""Of so many partitions a member's would have the number of its hash: what a row keeps, so that the relay can pass over
the rows of a partition in its statement."""
_hashes = Partitioner()

INSERT = """
insert into delivery.outbox (topic, member_id, value, key_hash, urgent)
select topic, member_id, value, key_hash, $5
from unnest($1::text[], $2::uuid[], $3::bytea[], $4::int[])
    with ordinality as o(topic, member_id, value, key_hash, place)
order by place
"""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    topic: str
    member_id: UUID
    value: bytes


def finish_events(drafts: Sequence[Draft], *, service: str, scope: str, now: datetime) -> list[CloudEvent]:
    """Give drafts their identity, time and place in the chain. `scope` is the consumer group or what else decided."""
    ordinals: dict[tuple[str, str, str], int] = {}
    source = service_source(service)
    events: list[CloudEvent] = []
    for draft in drafts:
        cause = cause_of(draft.because)
        if draft.named is None:
            step = step_of(draft.because) or scope
            place = (step, cause.source, cause.id)
            ordinals[place] = ordinal = ordinals.get(place, -1) + 1
            event_id = uuid5(NAMESPACE, f"{service} {step} {cause.source} {cause.id} {ordinal}")
        else:
            event_id = UUID(draft.named.id)
        events.append(
            draft.event(
                id=str(event_id),
                source=source,
                type=event_type(draft.event),
                time=now,
                subject=draft.member_id,
                correlationid=cause.chain,
                causationid=cause.id,
                causationsource=cause.source,
                traceparent=trace_of(cause, event_id),
                data=draft.data,
            )
        )
    return events


def to_rows(events: Sequence[CloudEvent]) -> list[OutboxRow]:
    """Encoded events with their topics; TooLarge (shared/events/codec.py) where no consumer would accept one."""
    return [OutboxRow(TOPIC_OF_TYPE[event.type].name, event.subject, encode(event)) for event in events]


async def put_in_outbox(
    connection: Connection, drafts: Sequence[Draft], *, service: str, scope: str, now: datetime, urgent: bool = False
) -> int:
    """Write the events of a decision, in the order decided; how many. The caller holds their members' locks, unless
    they are `urgent`: what a safety group decides is in order by its partitions and overtakes everything else."""
    if not drafts:
        return 0
    rows = to_rows(finish_events(drafts, service=service, scope=scope, now=now))
    await insert_rows(connection, rows, urgent=urgent)
    return len(rows)


async def insert_rows(connection: "Connection | Database", rows: Sequence[OutboxRow], *, urgent: bool = False) -> None:
    """Write rows in this order."""
    await connection.execute(
        INSERT,
        [row.topic for row in rows],
        [row.member_id for row in rows],
        [row.value for row in rows],
        [_hashes.partition(row.member_id, HASHES) for row in rows],
        urgent,
    )
