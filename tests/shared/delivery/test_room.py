"""Given little room for held events, when it is used up, then the partition waits with an alarm and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID, uuid4

import pytest
from prometheus_client import generate_latest, parser

from shared.clock import wall_now
from shared.held_events import HeldEvent
from shared.parking import NoRoom, Room, require_room
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunningService, RunService
from tests.shared.delivery.books import GROUP, JOINING, SAFETY, Books, take_one
from tests.shared.delivery.conftest import RED_FLAG, effects_are, effects_of, held, neighbour_of, partition_of
from tests.shared.delivery.operating import Operator, books_agree, fix
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, build, pain

EVENTS_MAX = 4


@pytest.fixture
async def narrow(run_service: RunService, probe_url: str) -> AsyncIterator[RunningService]:
    async with run_service(build, name="probe", database_url=probe_url, parked_events_max=EVENTS_MAX) as running:
        yield running


def stranger_to(member: UUID) -> UUID:
    """A member of another partition."""
    while partition_of(other := uuid4()) == partition_of(member):
        pass
    return other


def measured(name: str, **labels: str) -> float | None:
    for family in parser.text_string_to_metric_families(generate_latest().decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return None


async def not_ready(running: RunningService, because: str) -> bool:
    answer = (await running.client.get("/health/ready")).json()
    assert any(because in reason for reason in answer["reasons"]), answer
    return True


async def ready(running: RunningService) -> bool:
    answer = await running.client.get("/health/ready")
    assert answer.status_code == 200, answer.text
    return True


async def test_a_full_queue_stops_its_partition_until_there_is_room(
    narrow: RunningService, publish: Publish, consume: Consume
) -> None:
    member = uuid4()
    neighbour, stranger = neighbour_of(member), stranger_to(member)
    scores = [9, 1, 2, 3, 4, 5]
    await publish(ACTIVITY, pain(neighbour, 1), *(pain(member, score) for score in scores))
    await publish(ACTIVITY, pain(neighbour, 2), pain(stranger, 1), pain(member, 6, findings=RED_FLAG))
    await eventually(partial(not_ready, narrow, "probe.activity: 1 partitions wait for room, a member's queue"))
    assert len(await held(narrow)) == EVENTS_MAX
    assert await effects_of(narrow, neighbour) == [1], "what lay before it is taken, what lies behind waits in the log"
    await eventually(partial(effects_are, narrow, stranger, [1]))
    flags = [e["subject"] for e in await consume("careloop.plans", count=3) if e["type"].startswith("org.careloop.s")]
    assert flags == [str(member)], "a red flag never waits for room"

    async def counted() -> bool:
        return measured("careloop_partitions_full", consumer_group="probe.activity") == 1

    await eventually(counted)
    await fix(narrow)
    (done,) = await Operator(narrow.database_url)("replay")
    assert not done.failed
    await eventually(partial(effects_are, narrow, member, [*scores, 6]))
    await eventually(partial(effects_are, narrow, neighbour, [1, 2]))
    await narrow.settled()
    assert await ready(narrow)
    assert await held(narrow) == []
    assert await books_agree(narrow)


async def test_discarding_makes_room_too(narrow: RunningService, publish: Publish) -> None:
    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 2, 3, 4, 5)))
    await eventually(partial(not_ready, narrow, "wait for room"))
    await Operator(narrow.database_url)("discard")
    await eventually(partial(effects_are, narrow, member, [1, 2, 3, 4, 5]))
    await eventually(partial(ready, narrow))


async def test_a_full_group_stops_where_another_event_must_be_held(
    run_service: RunService, probe_url: str, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.housekeeping.HELD_EVERY_S", 0.1)
    members = [uuid4()]
    members += [neighbour_of(members[0]) for _ in range(5)]
    for member in members:
        await publish(ACTIVITY, pain(member, 9), pain(member, 1))
    # All in one chunk, which does not fit as a whole.
    async with run_service(build, name="probe", database_url=probe_url, parked_bytes_max=600) as narrow:
        await eventually(partial(not_ready, narrow, "the group holds as many events as it may"))
        assert 0 < len(await held(narrow)) < 12
        await fix(narrow)

        async def all_taken() -> bool:
            await Operator(probe_url)("replay")
            return all([await effects_of(narrow, member) == [9, 1] for member in members])

        await eventually(all_taken)
        await eventually(partial(ready, narrow))
        assert await books_agree(narrow)


async def test_what_is_held_is_measured(
    run_service: RunService, probe_url: str, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.housekeeping.HELD_EVERY_S", 0.1)
    async with run_service(build, name="probe", database_url=probe_url) as probe:
        member = uuid4()
        await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 2)), pain(uuid4(), 8))
        await probe.settled()
        group = {"consumer_group": "probe.activity"}

        async def told() -> bool:
            states = ("dead", "parked", "waiting")
            assert [measured("careloop_held_events", **group, state=s) for s in states] == [1, 2, 1]
            return True

        await eventually(told)
        assert (measured("careloop_held_bytes", **group) or 0) > 800
        (room,) = [one.room for one in probe.service.intakes if one.subscription.group == GROUP]
        await eventually(lambda: room.held_bytes > 800)
        full = room.held_bytes
        assert (measured("careloop_held_oldest_seconds", **group, state="dead") or 0) > 0
        assert measured("careloop_held_oldest_seconds", consumer_group="probe.safety", state="dead") == 0
        await fix(probe)
        await Operator(probe_url)("replay")

        async def gone() -> bool:
            return measured("careloop_held_events", **group, state="dead") == 0 and room.held_bytes < full

        await eventually(gone, what="what was taken leaves room for others")


async def test_the_oldest_of_what_is_held_is_what_is_told(
    run_service: RunService, probe_url: str, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came just now hides none that everybody has forgotten: a page goes by its age."""
    monkeypatch.setattr("shared.housekeeping.HELD_EVERY_S", 0.1)
    async with run_service(build, name="probe", database_url=probe_url) as probe:
        await publish(ACTIVITY, pain(uuid4(), 9), pain(uuid4(), 9))
        await probe.settled()
        forgotten = "update delivery.held_events set held_at = held_at - interval '2 days' where held_id = $1"
        await probe.service.database.execute(forgotten, (await held(probe))[0]["held_id"])

        async def told() -> bool:
            oldest = measured("careloop_held_oldest_seconds", consumer_group="probe.activity", state="dead") or 0
            assert oldest > 2 * 86_400
            return True

        await eventually(told)


async def test_all_that_this_process_has_held_takes_room_before_it_is_counted_again(books: Books) -> None:
    taker = books.taker()
    taker.room = Room(events_max=10, bytes_max=10_000)
    records = [books.write(pain(uuid4(), 9)) for _ in range(2)]
    for record in records:
        await take_one(taker, record)
    headers = sum(len(name) + len(value or b"") for record in records for name, value in record.headers)
    assert headers > 0
    assert taker.room.held_bytes == sum(len(record.value or b"") for record in records) + headers


async def test_a_queue_has_the_room_of_its_own_group_and_topic(books: Books) -> None:
    member = uuid4()
    await books.take(*(books.write_raw(b"{", key=member, topic=MEMBERS) for _ in range(3)), group=JOINING)
    assert len(await books.held(JOINING)) == 3
    event = HeldEvent(
        partition=0, record_offset=0, record_key=None, member_id=member, blocks=True, state="dead", reason="bug",
        detail=None, identity=b"", source=None, event_id=None, value=b"x", headers=(), record_at=wall_now(),
    )  # fmt: skip
    room = Room(events_max=3, bytes_max=1_000)
    async with books.transaction() as connection:
        assert await require_room(connection, room, group=GROUP, topic=ACTIVITY, held=[event]) == 1
        with pytest.raises(NoRoom):
            await require_room(connection, room, group=JOINING, topic=MEMBERS, held=[event])


async def test_a_safety_group_needs_no_room_for_its_dead_letters(books: Books) -> None:
    """Or the next red flag would wait behind one that cannot be read."""
    member, room = uuid4(), Room(events_max=1, bytes_max=1, held_bytes=1)
    taker = books.taker(SAFETY, room=room)
    await take_one(taker, books.write_raw(b"no JSON", key=member))
    await take_one(taker, books.write(pain(member, 1, findings=RED_FLAG)))
    assert [row["reason"] for row in await books.held(SAFETY)] == ["malformed"]
    assert len(await books.published()) == 1


async def test_what_stands_alone_takes_no_room_in_its_members_queue(books: Books) -> None:
    member = uuid4()
    await books.take(*(books.write(pain(member, 1), key=uuid4()) for _ in range(3)))
    assert [row["member_id"] for row in await books.held() if not row["blocks"]] == [member] * 3
    taker = books.taker(room=Room(events_max=1, bytes_max=10_000))
    async with asyncio.timeout(20):  # or it waits for room
        await take_one(taker, books.write(pain(member, 9)))
    assert [row["blocks"] for row in await books.held()] == [False] * 3 + [True]


async def test_a_group_that_holds_as_much_as_it_may_holds_no_more(books: Books) -> None:
    member = uuid4()
    event = HeldEvent(
        partition=0, record_offset=7, record_key=None, member_id=member, blocks=False, state="dead", reason="bug",
        detail=None, identity=b"", source=None, event_id=None, value=b"x", headers=(), record_at=wall_now(),
    )  # fmt: skip
    async with books.transaction() as connection:
        almost = Room(events_max=1, bytes_max=100, held_bytes=99)
        assert await require_room(connection, almost, group=GROUP, topic=ACTIVITY, held=[event]) == 1
        almost.held_bytes += 1
        with pytest.raises(NoRoom) as found:
            await require_room(connection, almost, group=GROUP, topic=ACTIVITY, held=[event])
    assert (found.value.full, found.value.offset) == ("group", 7)
