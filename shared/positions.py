"""Where a consumer group stands in a partition: the fence that makes two owners of one partition harmless."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from uuid import UUID

from shared.database import Connection
from shared.member_locks import LOCK_MEMBERS
from shared.outcomes import Write

# The positions first: the members are only asked for once all of them are counted. What holds for the transaction comes
# with them, so that it costs no round trip of its own: the limit on waiting for locks, and one plan for all values, as
# what a chunk sends looks up by key.
LOCK = f"""
with held as (
    select partition, next_offset, set_config('lock_timeout', $4, true) as lock_timeout,
        set_config('plan_cache_mode', 'force_generic_plan', true) as plans
    from delivery.positions
    where consumer_group = $1 and topic = $2 and partition = any($3::int[]) order by partition for update
), members as (
    {LOCK_MEMBERS.format(wanted="$5::uuid[]", condition="where (select count(*) from held) > 0")}
)
select * from held
"""  # noqa: S608 - only our own parts

ADVANCE = """
update delivery.positions p set
    next_offset = greatest(p.next_offset, a.next_offset), stalled_starts = 0,
    records_read = records_read + a.read, records_new = records_new + a.new,
    records_duplicate = records_duplicate + a.duplicate, records_refused = records_refused + a.refused,
    records_dead = records_dead + a.dead, records_parked = records_parked + a.parked,
    records_waiting = records_waiting + a.waiting
from unnest($3::int[], $4::bigint[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::int[], $11::int[])
    as a(partition, next_offset, read, new, duplicate, refused, dead, parked, waiting)
where consumer_group = $1 and topic = $2 and p.partition = a.partition
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

PROGRESS = "select sum(next_offset)::bigint from delivery.positions where consumer_group = $1 and topic = $2"

COUNT_STARTS = """
update delivery.positions set stalled_starts = stalled_starts + 1
where consumer_group = $1 and topic = $2 and partition = any($3::int[])
"""

# $5 were of this process and could not be taken back when they ended.
RECORD_ATTEMPT = """
insert into delivery.attempts as a (consumer_group, topic, partition, record_offset, attempts)
values ($1, $2, $3, $4, 1)
on conflict (consumer_group, topic, partition, record_offset)
    do update set attempts = greatest(a.attempts - $5, 0) + 1
returning attempts
"""

TAKE_BACK_ATTEMPT = """
update delivery.attempts set attempts = attempts - 1
where consumer_group = $1 and topic = $2 and partition = $3 and record_offset = $4 and attempts > 0
"""

FORGET_ATTEMPT = """
delete from delivery.attempts where consumer_group = $1 and topic = $2 and partition = $3 and record_offset = $4
"""

ATTEMPTS_MAX = 3
"""What was begun this often and never ended is what kills the process: a record or a held event becomes a dead letter,
a timer is given up."""


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
        return sum(_by_outcome(self))


_by_outcome = attrgetter(*Counts.__slots__)


def sum_counts(counts: Iterable[Counts]) -> Counts:
    """These counts added up, outcome by outcome."""
    return Counts(*map(sum, zip(*map(_by_outcome, counts), strict=True)))


async def ensure_positions(connection: Connection, group: str, topic: str, starts: dict[int, int]) -> None:
    """Insert the row of each partition that has none, at its start offset. Done when a partition is assigned."""
    await connection.execute(ENSURE, group, topic, list(starts), list(starts.values()))


async def load_positions(connection: Connection, group: str, topic: str, partitions: list[int]) -> dict[int, Position]:
    rows = await connection.fetch(LOAD, group, topic, partitions)
    return {row["partition"]: Position(row["next_offset"], row["stalled_starts"]) for row in rows}


async def load_progress(connection: Connection, group: str, topic: str) -> int:
    """How far the group has come, in all partitions together: more than before where it has taken anything since."""
    return await connection.fetchval(PROGRESS, group, topic) or 0


async def count_starts(connection: Connection, group: str, topic: str, partitions: list[int]) -> None:
    """Note that work on these partitions begins; a committed chunk sets the count back to zero."""
    await connection.execute(COUNT_STARTS, group, topic, partitions)


async def lock_positions(
    connection: Connection,
    group: str,
    topic: str,
    partitions: Sequence[int],
    *,
    members: Collection[UUID] = (),
    lock_timeout: str,
) -> dict[int, int]:
    """Lock the positions of these partitions and then these members until the transaction ends, which waits for no
    further lock longer than `lock_timeout`; next_offset by partition, without those that have no row. Whatever is read
    about the members must be read in a later statement."""
    rows = await connection.fetch(LOCK, group, topic, partitions, lock_timeout, list(members))
    return {partition: next_offset for partition, next_offset, *_ in rows}


def advancing_positions(group: str, topic: str, advances: Sequence[tuple[int, int, Counts]]) -> Write:
    """Move the position of each of these partitions, given with its new end, never back, and count what was read."""
    rows = [(partition, end, counts.read, *_by_outcome(counts)) for partition, end, counts in advances]
    return Write(ADVANCE, [group, topic, *zip(*rows, strict=True)])


async def record_attempt(
    connection: Connection, group: str, topic: str, partition: int, offset: int, *, owed: int = 0
) -> int:
    """Count an attempt at one record before it is made, in a transaction of its own; how many there were with it,
    without those `owed`: that have ended, and are still to be taken back."""
    attempts: int = await connection.fetchval(RECORD_ATTEMPT, group, topic, partition, offset, owed)
    return attempts


async def take_back_attempt(connection: Connection, group: str, topic: str, partition: int, offset: int) -> None:
    """The attempt has ended and its process lives: whatever it ended with, the record did not kill."""
    await connection.execute(TAKE_BACK_ATTEMPT, group, topic, partition, offset)


async def forget_attempts(connection: Connection, group: str, topic: str, partition: int, offset: int) -> None:
    """It has been seen to kill nobody."""
    await connection.execute(FORGET_ATTEMPT, group, topic, partition, offset)
