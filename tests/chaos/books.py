"""What a service's database holds at the end of a run, as far as every service has it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from shared.database import Connection
from shared.migrating import list_migrations
from tests.chaos.findings import Findings
from tests.chaos.log import Log
from tests.chaos.reading import Kinds, Read, read_as
from tests.chaos.stream import ACTIVITY

HELD = """
select consumer_group, topic, partition, record_offset, state, reason from delivery.held_events
"""
COUNTS = """
select consumer_group, topic, partition, records_duplicate, records_dead from delivery.positions
"""


async def judge_books(
    connection: Connection, service: str, reads: Mapping[str, Sequence[Read]], log: Log, findings: Findings,
    *, bugs: Mapping[str, Sequence[Read]], release: int,
) -> None:  # fmt: skip
    """`reads`: by group of this service on careloop.activity, the fate of every record. `bugs`: those whose dead letter
    was replayed since."""
    held = [tuple(row) for row in await connection.fetch(HELD)]
    wanted = [
        (group, ACTIVITY, read.record.partition, read.record.offset, read.fate, read.reason)
        for group, several in reads.items()
        for read in several
        if read.fate in ("dead", "parked")
    ]
    findings.same_all("held", f"{service} holds", wanted, held)
    left = await connection.fetchval("select count(*) from delivery.outbox")
    findings.same("outbox", f"rows left in the outbox of {service}", 0, left)
    await _judge_counts(connection, service, reads, log, findings, bugs=bugs)
    applied = {row["name"] for row in await connection.fetch("select name from public.migrations")}
    there = {migration.name for migration in list_migrations(service)}
    later = {f"{service}/9{place:03}_release" for place in range(release)}
    findings.same("migrations", f"migrations of {service}", there | later, applied)


async def _judge_counts(
    connection: Connection, service: str, reads: Mapping[str, Sequence[Read]], log: Log, findings: Findings,
    *, bugs: Mapping[str, Sequence[Read]],
) -> None:  # fmt: skip
    for row in await connection.fetch(COUNTS):
        group, topic, partition = row["consumer_group"], row["topic"], row["partition"]
        of_group = reads[group] if topic == ACTIVITY else read_as(log[topic], NO_KINDS)
        fates = Counter(read.fate for read in of_group if read.record.partition == partition)
        fates["dead"] += sum(read.record.partition == partition for read in bugs.get(group, ()))
        for fate, counted in (("repeat", row["records_duplicate"]), ("dead", row["records_dead"])):
            findings.same("counts", f"{group} {topic} {partition}: counted as {fate}", fates[fate], counted)  # type: ignore[index]


NO_KINDS: Kinds = {}
