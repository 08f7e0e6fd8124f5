"""How much may be held: room for the events that queue behind a dead letter or wait.

Beyond it nothing is dropped and nothing is skipped: the partition stops before the record that finds no room, and the
log keeps what comes, until an operator has replayed or discarded. Safety groups know no limit: a red flag is never
stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from shared.database import Connection
from shared.held_events import HeldEvent

COUNT_QUEUES = """
select member_id, count(*) as events from delivery.held_events
where blocks and member_id = any($1::uuid[]) and consumer_group = $2 and topic = $3 group by member_id
"""

Full = Literal["queue", "group"]


class NoRoom(Exception):
    """An event would have to be held, and there is no room: in its member's queue, or in the group."""

    def __init__(self, offset: int, full: Full) -> None:
        super().__init__(full)
        self.offset = offset
        """Of the first record without room; those before it can be taken."""
        self.full: Full = full


@dataclass(slots=True)
class Room:
    """What a consumer group may hold, and how much it holds."""

    events_max: int
    """In the queue of one member."""
    bytes_max: int
    """In the whole group."""
    held_bytes: int = 0
    """As counted last (housekeeping.py), and what this process has added since."""


async def require_room(connection: Connection, room: Room, *, group: str, topic: str, held: Sequence[HeldEvent]) -> int:
    """How many bytes these events take, which are about to be held. NoRoom where they are too many; the caller has
    locked their members."""
    if not held:
        return 0
    held_bytes = 0
    for event in held:
        if room.held_bytes + held_bytes >= room.bytes_max:
            raise NoRoom(event.record_offset, "group")
        held_bytes += len(event.value or b"") + sum(len(name) + len(value or b"") for name, value in event.headers)
    queued = [event for event in held if event.blocks]
    if queued:
        rows = await connection.fetch(COUNT_QUEUES, list({event.member_id for event in queued}), group, topic)
        lengths: dict[UUID | None, int] = {row["member_id"]: row["events"] for row in rows}
        for event in queued:
            lengths[event.member_id] = lengths.get(event.member_id, 0) + 1
            if lengths[event.member_id] > room.events_max:
                raise NoRoom(event.record_offset, "queue")
    return held_bytes
