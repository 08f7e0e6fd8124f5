"""Given a member's events in a database, when an operator asks why, each hangs below the one that caused it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.messaging.domain.timeline import TimelineEntry
from services.messaging.store.timeline import saving_timeline
from shared.writing import write
from tests.deploy.given_stack import careloop, write_stack
from tests.fixtures.databases import DatabaseFactory, connected
from tests.fixtures.servers import RunningServers

MEMBER, OTHER = uuid4(), uuid4()
AT = datetime(2026, 9, 1, 8, 0, tzinfo=UTC)
APP, PLANS, MESSAGING = "urn:test:app", "urn:careloop:plans", "urn:careloop:messaging"


def entry(
    minute: int, event_type: str, summary: str, *, source: str, service: str, because: str | None = None,
    chain: str = "one", member: UUID = MEMBER,
) -> TimelineEntry:  # fmt: skip
    """An event whose id is its type; `because` is the type of its cause, of the apps or plans."""
    cause = None if because is None else APP if because.startswith("session") else PLANS
    return TimelineEntry(
        member_id=member, source=source, event_id=f"{chain}/{event_type}", event_type=event_type, service=service,
        occurred_at=AT + timedelta(minutes=minute), correlation_id=chain, caused_by_source=cause,
        caused_by_id=because and f"{chain}/{because}", summary=summary,
    )  # fmt: skip


ENTRIES = [
    entry(0, "session.completed", "pain 8", source=APP, service="apps"),
    entry(1, "pain.spiked", "pain 8, usual 3 [usual]", source=PLANS, service="plans", because="session.completed"),
    entry(2, "alert.raised", "asks Cora", source=MESSAGING, service="messaging", because="pain.spiked"),
    entry(3, "plan.revised", "version 2", source=PLANS, service="plans", because="session.completed"),
    entry(4, "session.completed", "pain 3", source=APP, service="apps", chain="two"),
    entry(5, "milestone.reached", "ten", source=PLANS, service="plans", because="session.completed", chain="two"),
    entry(6, "visit.booked", "nobody knows why", source=MESSAGING, service="messaging", because="gone", chain="two"),
    entry(7, "session.completed", "of another", source=APP, service="apps", member=OTHER, chain="three"),
]
FIRST = """\
2026-09-01 08:00:00 apps          session.completed pain 8
├── 2026-09-01 08:01:00 plans         pain.spiked pain 8, usual 3 [usual]
│   └── 2026-09-01 08:02:00 messaging     alert.raised asks Cora
└── 2026-09-01 08:03:00 plans         plan.revised version 2
"""
SECOND = """\
2026-09-01 08:04:00 apps          session.completed pain 3
└── 2026-09-01 08:05:00 plans         milestone.reached ten
2026-09-01 08:06:00 messaging     visit.booked nobody knows why
"""


@pytest.fixture
async def data(database: DatabaseFactory, servers: RunningServers, tmp_path: Path) -> Path:
    url = await database("messaging")
    async with connected(url) as connection:
        await write(connection, [saving_timeline(ENTRIES)])
    write_stack(tmp_path, servers=servers, namespace="unused", databases={"messaging": url})
    return tmp_path


async def drawn(*arguments: str, data: Path, member: UUID = MEMBER) -> str:
    told = await careloop("why", "--member", str(member), *arguments, data=data)
    assert told.exit_code == 0, told.output
    return "".join(f"{line.rstrip()}\n" for line in told.stdout.splitlines())


async def test_causes_and_what_they_led_to_are_drawn_as_trees(data: Path) -> None:
    assert await drawn(data=data) == FIRST + SECOND


async def test_one_chain_can_be_asked_for(data: Path) -> None:
    assert await drawn("--chain", "two", data=data) == SECOND


async def test_of_more_than_the_limit_the_newest_are_drawn(data: Path) -> None:
    assert await drawn("--limit", "2", data=data) == "".join(f"{line}\n" for line in (
        "2026-09-01 08:05:00 plans         milestone.reached ten",
        "2026-09-01 08:06:00 messaging     visit.booked nobody knows why",
    ))  # fmt: skip


async def test_a_program_gets_the_causes(data: Path) -> None:
    told = json.loads(await drawn("--json", data=data))
    assert [(e["event_id"], e["caused_by_id"]) for e in told] == [
        (e.event_id, e.caused_by_id) for e in ENTRIES if e.member_id == MEMBER
    ]


async def test_a_deep_chain_is_drawn_whole(database: DatabaseFactory, servers: RunningServers, tmp_path: Path) -> None:
    url, depth = await database("messaging"), 40
    chain = [
        TimelineEntry(
            member_id=MEMBER, source=PLANS, event_id=str(place), event_type="plan.revised", service="plans",
            occurred_at=AT + timedelta(minutes=place), correlation_id="deep", caused_by_source=PLANS,
            caused_by_id=str(place - 1), summary=f"summary-of-{place}",
        )
        for place in range(depth)
    ]  # fmt: skip
    async with connected(url) as connection:
        await write(connection, [saving_timeline(chain)])
    write_stack(tmp_path, servers=servers, namespace="unused", databases={"messaging": url})
    lines = (await drawn(data=tmp_path)).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [f"summary-of-{place}" for place in range(depth)]
    assert [line.index("2026") for line in lines] == [4 * place for place in range(depth)]


async def test_a_member_of_whom_nothing_is_known(data: Path) -> None:
    told = await careloop("why", "--member", str(uuid4()), data=data)
    assert (told.exit_code, told.stderr) == (1, "careloop: Nothing is known of that member.\n")


async def test_a_chain_that_is_not_among_the_members_is_not_called_an_unknown_member(data: Path) -> None:
    told = await careloop("why", "--member", str(MEMBER), "--chain", "four", data=data)
    assert (told.exit_code, told.stderr) == (1, "careloop: Nothing is known of chain four of that member.\n")
