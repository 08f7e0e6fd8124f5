"""What a consumer group has taken, so that the same event never takes effect twice.

The identity of an event is (source, id), as CloudEvents says; a row is keyed by its hash together with the group. The
row is written before anything is decided and lies outside every savepoint.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Literal
from uuid import UUID

from shared.clock import wall_now
from shared.database import Connection

Outcome = Literal["applied", "ignored", "refused", "parked", "waiting", "dead", "discarded"]
Late = Literal["taken", "duplicate", "conflict"]

# The inbox is read as it was before this statement, so `known` holds only events taken by earlier chunks. Identities
# and digests come one after the other in one value, which the driver is quicker to write than two arrays.
TAKE = """
with arrived as (
    select substr($1, start, 16) as identity, substr($1, start + 16, 16) as digest
    from generate_series(1, octet_length($1::bytea), 32) as start
), taken as (
    insert into delivery.inbox (identity, digest) select identity, digest from arrived order by identity
    on conflict (identity) do nothing returning identity
)
select
    (select count(*) from taken) as taken,
    case when (select count(*) from taken) < (select count(*) from arrived)
        then array(
            select identity || digest from delivery.inbox where identity = any(array(select identity from arrived))
        ) else '{}'
    end as known,
    array(
        select distinct member_id from delivery.held_events
        where blocks and member_id = any($2::uuid[]) and consumer_group = $3 and topic = $4
    ) as blocked,
    exists (
        select from delivery.held_events
        where blocks and (state = 'waiting' or reason = 'waited-too-long') and member_id = any($2::uuid[])
    ) as awaited
"""

# What was discarded stays so: only another body that is read once more comes again under the identity of its place.
RECORD = """
update delivery.inbox i set outcome = o.outcome, detail = o.detail
from unnest($1::bytea[], $2::text[], $3::text[]) as o(identity, outcome, detail)
where i.identity = o.identity and i.outcome <> 'discarded'
"""

TAKE_LATE = """
insert into delivery.inbox (identity, digest)
select identity, digest from unnest($1::bytea[], $2::bytea[]) as l(identity, digest) order by identity
on conflict (identity) do nothing returning identity
"""
GIVE_BACK = """
delete from delivery.inbox i where identity = any($1::bytea[]) and outcome <> 'discarded'
    and not exists (select from delivery.held_events h where h.identity = i.identity)
"""

FIND = "select identity, outcome, detail, digest from delivery.inbox where identity = any($1::bytea[])"

# Those that may still be replayed although nothing keeps their own identity: they are held under that of their place.
FIND_APART = """
select held_id, consumer_group, source, event_id from delivery.held_events
where state = 'dead' and not blocks and event_id is not null and held_id > $1 order by held_id limit $2
"""
# By a time that stands still for the statement: an index can only be asked for such a one.
# What is old by the database's clock and by ours: one of them may be far ahead for a moment, and nothing brings back
# what was forgotten then.
FORGET = """
delete from delivery.inbox where identity = any(array(
    select identity from delivery.inbox i
    where taken_at < least(statement_timestamp(), $4::timestamptz) - make_interval(days => $1)
      and not exists (select from delivery.held_events h where h.identity = i.identity)
      and not exists (
          select from generate_series(1, octet_length($3::bytea), 16) as start where substr($3, start, 16) = i.identity
      )
    order by taken_at limit $2
))
"""

IDENTITY_BYTES = 16
RETENTION_DAYS = 35
"""Longer than any topic's retention plus the oldest accepted event has been under way."""
FORGET_MAX = 5_000
"""Rows that are deleted at once."""
APART_PAGE = 2_000
"""Dead letters that are read at once: a bug in a safety group can make millions, and others come in between."""


@dataclass(frozen=True, slots=True)
class Findings:
    known: dict[bytes, bytes]
    """Identities that an earlier chunk has taken, with the digest of the body it took."""
    blocked: frozenset[UUID]
    """Members with a queue of held events in this group and topic."""
    awaited: bool
    """Whether any held event of these members, in any group, waits for something."""


def inbox_identity(group: str, source: str, event_id: str) -> bytes:
    """16 bytes for (group, source, id)."""
    return hashlib.blake2b(f"{group}\0{source}\0{event_id}".encode(), digest_size=IDENTITY_BYTES).digest()


def coordinates_identity(group: str, topic: str, partition: int, offset: int, timestamp: int) -> bytes:
    """16 bytes for a record that has no readable identity: where it lies in the log, and its timestamp (ms), because a
    topic that was made anew counts its offsets from zero again."""
    place = f"{group}\0\0{topic}\0{partition}\0{offset}\0{timestamp}"
    return hashlib.blake2b(place.encode(), digest_size=IDENTITY_BYTES).digest()


async def take_into_inbox(
    connection: Connection,
    *,
    group: str,
    topic: str,
    identities: Sequence[bytes],
    digests: Sequence[bytes],
    member_ids: Sequence[UUID],
) -> Findings:
    """Take events (each identity once) and read, after the members' locks, what diverts them. One statement."""
    arrived = b"".join(map(add, identities, digests))
    row = await connection.fetchrow(TAKE, arrived, member_ids, group, topic)
    assert row is not None
    known = {both[:IDENTITY_BYTES]: both[IDENTITY_BYTES:] for both in row["known"]}
    if row["taken"] + len(known) < len(identities):
        # Another member's event with the same identity was committed while this statement waited for it.
        raise LateConflict(len(identities) - row["taken"] - len(known))
    return Findings(known, frozenset(row["blocked"]), row["awaited"])


class LateConflict(Exception):
    """Two partitions brought the same identity at once; the chunk is taken again and then sees it."""


async def record_outcomes(connection: Connection, outcomes: Mapping[bytes, tuple[Outcome, str | None]]) -> None:
    """Set how these events ended, where that is not simply `applied`."""
    if outcomes:
        await connection.execute(RECORD, list(outcomes), *zip(*outcomes.values(), strict=True))


async def take_late(connection: Connection, events: Sequence[tuple[bytes, bytes]]) -> list[Late]:
    """Take events, given by identity and digest, that were at fault when they came. `duplicate` where a copy of one was
    taken meanwhile or stands before it, `conflict` where that copy had another body."""
    if not events:
        return []
    first: dict[bytes, bytes] = {}
    for identity, digest in events:
        first.setdefault(identity, digest)
    rows = await connection.fetch(TAKE_LATE, list(first), list(first.values()))
    new = {row["identity"] for row in rows}
    digests = {identity: first[identity] for identity in new}
    if len(new) < len(first):
        found = await connection.fetch(FIND, [identity for identity in first if identity not in new])
        digests |= {row["identity"]: row["digest"] for row in found}
    lates: list[Late] = []
    for identity, digest in events:
        if identity in new:
            new.remove(identity)
            lates.append("taken")
        else:
            lates.append("duplicate" if digests.get(identity) == digest else "conflict")
    return lates


async def give_back(connection: Connection, identities: Sequence[bytes]) -> None:
    """Undo what this transaction took, for events that had no effect after all: else the next attempt would pass for a
    duplicate of this one. What is held under an identity keeps it, and what was discarded."""
    if identities:
        await connection.execute(GIVE_BACK, identities)


@dataclass(frozen=True, slots=True)
class Found:
    outcome: Outcome
    detail: str | None
    digest: bytes
    """Of the body that was taken."""


async def find_outcomes(
    connection: Connection, *, group: str, events: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Found]:
    """How events, given as (source, id), ended in a consumer group; those it has not taken are missing."""
    wanted = {inbox_identity(group, source, event_id): (source, event_id) for source, event_id in events}
    rows = await connection.fetch(FIND, list(wanted))
    return {wanted[row["identity"]]: Found(row["outcome"], row["detail"], row["digest"]) for row in rows}


async def find_apart(connection: Connection) -> bytes:
    """The identities of all dead letters that stand alone, one after the other."""
    apart = bytearray()
    after = 0
    while rows := await connection.fetch(FIND_APART, after, APART_PAGE):
        for row in rows:
            apart += inbox_identity(row["consumer_group"], row["source"], row["event_id"])
        after = rows[-1]["held_id"]
    return bytes(apart)


async def forget_taken(connection: Connection, apart: bytes) -> int:
    """Delete rows past their retention, some thousands at once; how many. Held events keep theirs, and one that stands
    `apart` that of the copy that was published rightly: else a late replay would apply the event again."""
    status = await connection.execute(FORGET, RETENTION_DAYS, FORGET_MAX, apart, wall_now())
    return int(status.rsplit(" ", 1)[1])
