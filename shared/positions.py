"""Where a consumer group stands in a partition: the fence that makes two owners of one partition harmless."""

from dataclasses import dataclass

from shared.database import Connection

LOCK_POSITION = """
select next_offset from delivery.positions where consumer_group = $1 and topic = $2 and partition = $3 for update
"""

ADVANCE = """
update delivery.positions set
    next_offset = greatest(next_offset, $4), stalled_starts = 0,
    records_read = records_read + $5, records_new = records_new + $6, records_duplicate = records_duplicate + $7,
    records_refused = records_refused + $8, records_dead = records_dead + $9, records_parked = records_parked + $10,
    records_waiting = records_waiting + $11
where consumer_group = $1 and topic = $2 and partition = $3
"""

ENSURE = """
insert into delivery.positions (consumer_group, topic, partition, next_offset, first_offset)
select $1, $2, partition, start_offset, start_offset from unnest($3::int[], $4::bigint[]) as p(partition, start_offset)
order by partition
on conflict (consumer_group, topic, partition) do nothing
"""

LOAD = """
select partition, next_offset, stalled_starts from delivery.positions
where consumer_group = $1 and topic = $2 and partition = any($3::int[])
"""

COUNT_STARTS = """
update delivery.positions set stalled_starts = stalled_starts + 1
where consumer_group = $1 and topic = $2 and partition = any($3::int[])
"""

RECORD_ATTEMPT = """
insert into delivery.attempts as a (consumer_group, topic, partition, record_offset, attempts)
values ($1, $2, $3, $4, 1)
on conflict (consumer_group, topic, partition, record_offset) do update set attempts = a.attempts + 1
returning attempts
"""


@dataclass(frozen=True, slots=True)
class Position:
    next_offset: int
    stalled_starts: int


@dataclass(slots=True)
class Counts:
    """Every record that was read is exactly one of these."""

    new: int = 0
    duplicate: int = 0
    refused: int = 0
    dead: int = 0
    parked: int = 0
    waiting: int = 0

    @property
    def read(self) -> int:
        return self.new + self.duplicate + self.refused + self.dead + self.parked + self.waiting


async def ensure_positions(connection: Connection, group: str, topic: str, starts: dict[int, int]) -> None:
    """Insert the row of each partition that has none, at its start offset. Done when a partition is assigned."""
    await connection.execute(ENSURE, group, topic, list(starts), list(starts.values()))


async def load_positions(connection: Connection, group: str, topic: str, partitions: list[int]) -> dict[int, Position]:
    rows = await connection.fetch(LOAD, group, topic, partitions)
    return {row["partition"]: Position(row["next_offset"], row["stalled_starts"]) for row in rows}


async def count_starts(connection: Connection, group: str, topic: str, partitions: list[int]) -> None:
    """Note that work on these partitions begins; a committed chunk sets the count back to zero."""
    await connection.execute(COUNT_STARTS, group, topic, partitions)


async def lock_position(connection: Connection, group: str, topic: str, partition: int) -> int | None:
    """Lock the partition's position until the transaction ends; next_offset, or None where there is no row."""
    value: int | None = await connection.fetchval(LOCK_POSITION, group, topic, partition)
    return value


async def advance_position(
    connection: Connection, group: str, topic: str, partition: int, *, end: int, counts: Counts
) -> None:
    """Move the position to `end`, never back, and count what was read."""
    await connection.execute(
        ADVANCE,
        group,
        topic,
        partition,
        end,
        counts.read,
        counts.new,
        counts.duplicate,
        counts.refused,
        counts.dead,
        counts.parked,
        counts.waiting,
    )


async def record_attempt(connection: Connection, group: str, topic: str, partition: int, offset: int) -> int:
    """Count an attempt at one record before it is made, in a transaction of its own; how many there were with it."""
    attempts: int = await connection.fetchval(RECORD_ATTEMPT, group, topic, partition, offset)
    return attempts
