"""Given a log, when a shadow of a service is built from it, then it comes to the same, and nobody outside notices."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.dead_letters.readers import readers_of
from deploy.shadow.database import shadow_url
from deploy.shadow.running import HistoryClock
from services.plans.main import build
from services.plans.settings import PlansSettings
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder, encode
from shared.migrating import migrate
from shared.replaying import Reader
from tests.deploy.given_books import ACTIVITY, NOT_AN_EVENT, ago, join
from tests.deploy.given_stack import careloop, write_stack
from tests.fixtures.databases import DatabaseFactory, connected
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish, RunningService, RunService, member_key
from tests.fixtures.topics import TopicFactory, admin_client
from tests.journeys.events import session
from tests.shared.delivery.operating import readers as probe_readers
from tests.shared.delivery.probe import MEMBERS, add_tables, pain, paused
from tests.shared.delivery.probe import build as build_probe

NOTHING_PUBLISHED = "select count(*) from delivery.outbox"


@pytest.fixture
async def drops(tmp_path: Path) -> AsyncIterator[None]:
    """Whatever a test leaves of shadows goes."""
    yield
    if (tmp_path / "stack.json").exists():
        for service in json.loads((tmp_path / "stack.json").read_text())["services"]:
            await careloop("shadow", "drop", "--service", service, data=tmp_path)


async def asked(data: Path, *arguments: str) -> Any:
    answer = await careloop("shadow", *arguments, "--json", data=data)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


async def groups_on(servers: RunningServers, namespace: str) -> set[str]:
    async with admin_client(servers.kafka_bootstrap) as admin:
        assert isinstance(admin, AIOKafkaAdminClient)
        return {group for group, _ in await admin.list_consumer_groups() if group.startswith(namespace)}


async def rows(url: str, query: str) -> list[dict[str, Any]]:
    async with connected(url) as connection:
        return [dict(row) for row in await connection.fetch(query)]


async def test_a_shadow_of_plans_comes_to_what_plans_came_to(
    drops: None, tmp_path: Path, servers: RunningServers, namespace: str, log: None, database: DatabaseFactory,
    run_service: RunService, publish: Publish,
) -> None:  # fmt: skip
    url, one, two, stranger = await database("plans"), uuid4(), uuid4(), uuid4()
    stack = write_stack(tmp_path, servers=servers, namespace=namespace, databases={"plans": url})
    async with run_service(build, PlansSettings, name="plans", database_url=url) as running:
        await join(publish, one, two)
        await running.settled()
        await publish(ACTIVITY, *(session(m, n, pain=3, at=ago(6 - n)) for n in (1, 2) for m in (one, two)))
        old = orjson.loads(encode(pain(one, 3)))
        await publish.raw(ACTIVITY, orjson.dumps({**old, "time": "2020-01-01T00:00:00Z"}), key=member_key(one))
        await publish.raw(ACTIVITY, NOT_AN_EVENT, key=member_key(two))
        await publish(ACTIVITY, session(two, 3, pain=3, at=ago(2)), session(stranger, 1, pain=3, at=ago(2)))
        await running.settled()
        before = await state_of(url)
        groups = await groups_on(servers, namespace)
        told = await asked(tmp_path, "run", "--service", "plans", "--reason", "rehearsal")

        assert [one["different"] for one in told["groups"]] == [{}] * 4
        activity = next(one for one in told["groups"] if one["consumer_group"] == "plans.activity")
        assert activity["books"] == {
            "read": 8, "new": 4, "duplicate": 0, "refused": 0, "dead": 2, "parked": 1, "waiting": 1,
        }  # fmt: skip
        assert activity["held"] == {"dead": 2, "parked": 1, "waiting": 1}
        assert activity["same"] == 8
        assert told["published"]["org.careloop.plan.issued.v1"] == 2
        assert await groups_on(servers, namespace) == groups
        assert await state_of(url) == before
        operations = await rows(url, "select action, reason from delivery.operations")
        assert operations == [{"action": "shadow run", "reason": "rehearsal"}]
        plans = "select member_id, status from care_plans order by member_id"
        assert await rows(shadow_url(stack, "plans"), plans) == await rows(url, plans)
        assert (await rows(shadow_url(stack, "plans"), NOTHING_PUBLISHED))[0]["count"] > 0, "it only lies there"
        others = "select has_database_privilege('public', current_database(), 'connect') as may_enter"
        assert await rows(shadow_url(stack, "plans"), others) == [{"may_enter": False}], "it holds health data"


async def state_of(url: str) -> list[list[dict[str, Any]]]:
    """What the live service has, except for who did what by hand."""
    tables = ("positions", "inbox", "held_events", "outbox", "timers")
    return [await rows(url, f"select * from delivery.{table} t order by t::text") for table in tables]


@pytest.fixture
async def probe(
    drops: None, run_service: RunService, topics: TopicFactory, database: DatabaseFactory, tmp_path: Path,
    servers: RunningServers, namespace: str, monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[RunningService]:  # fmt: skip
    """The probe as the one service of a stack, whose shadow has its tables, too."""

    async def migrate_probe(url: str, *, service: str) -> None:
        await migrate(url, service=service)
        await add_tables(url)

    monkeypatch.setattr("deploy.shadow.database.migrate", migrate_probe)
    monkeypatch.setattr("deploy.cli.shadow.readers_of", lambda _: probe_readers())
    await topics(ACTIVITY, MEMBERS, "careloop.plans", partitions=2)
    url = await database(None)
    await migrate_probe(url, service="probe")
    write_stack(tmp_path, servers=servers, namespace=namespace, databases={"probe": url})
    async with run_service(build_probe, name="probe", database_url=url) as running:
        yield running


async def test_a_shadow_tells_where_another_version_would_do_otherwise(
    probe: RunningService, tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler that will be installed no longer raises."""

    async def mended(connection: Any, events: Any, /, *, now: datetime) -> Any:
        await connection.execute("insert into switches values ('fixed') on conflict do nothing")
        return await probe_readers()["probe.activity"].subscription.run(connection, events, now=now)

    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 7, 2)), pain(uuid4(), 5))
    await probe.settled()
    known = dict(probe_readers())
    subscription = known["probe.activity"].subscription
    known["probe.activity"] = Reader(
        type(subscription)(topic=ACTIVITY, group=subscription.group, run=mended), Decoder(TOPIC_OF[ACTIVITY])
    )
    monkeypatch.setattr("deploy.cli.shadow.readers_of", lambda _: known)
    told = await asked(tmp_path, "run", "--service", "probe", "--group", "probe.activity", "--reason", "2.3.1")
    (group,) = told["groups"]
    assert group["different"] == {"applied, live: dead": 1, "applied, live: parked": 2, "refused, live: parked": 1}
    assert group["same"] == 1
    shown = await careloop("shadow", "run", "--service", "probe", "--reason", "again", data=tmp_path)
    assert "There is a shadow of probe already" in shown.stderr
    assert (await asked(tmp_path, "drop", "--service", "probe"))["dropped"]
    assert not (await asked(tmp_path, "drop", "--service", "probe"))["dropped"]
    shown = await careloop("shadow", "run", "--service", "probe", "--reason", "again", data=tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "applied, live: dead" in shown.stdout
    assert "org.careloop.pain.settled.v1" in shown.stdout


async def test_history_is_read_whatever_its_age_and_what_waits_across_topics_is_settled(
    probe: RunningService, tmp_path: Path, publish: Publish
) -> None:
    """What the live service took in its time, in months of which no clock is left, is taken; what it refused is not."""
    member, other = uuid4(), uuid4()
    raw = orjson.loads(encode(pain(member, 4)))
    aged = {**raw, "time": (datetime.now(UTC) - timedelta(days=90)).isoformat()}
    await publish.raw(ACTIVITY, orjson.dumps(aged), key=member_key(member))
    await publish(ACTIVITY, pain(other, 8), *(pain(other, number % 7) for number in range(40)))
    await publish(MEMBERS, paused(other))
    await probe.settled()
    told = await asked(tmp_path, "run", "--service", "probe", "--reason", "look")
    assert [group["different"] for group in told["groups"]] == [{}] * 3
    assert {group["consumer_group"]: group["held"] for group in told["groups"]}["probe.activity"] == {"dead": 1}
    # An operator overrules: so does the next shadow.
    answer = await careloop("shadow", "drop", "--service", "probe", data=tmp_path)
    assert answer.stdout == "The shadow of probe is gone.\n"
    await probe.service.database.execute(
        "update delivery.inbox set outcome = 'applied', detail = null where detail = 'too-old'"
    )
    told = await asked(tmp_path, "run", "--service", "probe", "--reason", "look again")
    assert [group["held"] for group in told["groups"]] == [{}] * 3
    assert [group["different"] for group in told["groups"]] == [{}] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--service", "billing", "--reason", "x"], "This stack has no service billing"),
        (["run", "--service", "probe", "--reason", " "], "--reason must say why"),
        (["run", "--service", "probe", "--reason", "x", "--group", "probe.x"], "probe has no consumer group probe.x"),
        (["drop", "--service", "billing"], "This stack has no service billing"),
    ],
)
async def test_what_makes_no_sense_is_said_in_one_sentence(
    probe: RunningService, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    answer = await careloop("shadow", *arguments, data=tmp_path)
    assert answer.exit_code == 1
    assert sentence in answer.stderr
    assert "Traceback" not in answer.output


def test_a_service_that_reads_nothing_has_no_shadow() -> None:
    assert not readers_of("enrollment")


async def test_what_was_refused_for_its_time_and_discarded_is_refused_in_a_shadow(
    probe: RunningService, tmp_path: Path, publish: Publish
) -> None:
    raw = orjson.loads(encode(pain(member := uuid4(), 4)))
    aged = {**raw, "time": (datetime.now(UTC) - timedelta(days=90)).isoformat()}
    await publish.raw(ACTIVITY, orjson.dumps(aged), key=member_key(member))
    await probe.settled()
    await probe.service.database.execute("delete from delivery.held_events")
    await probe.service.database.execute("update delivery.inbox set outcome = 'discarded' where detail = 'too-old'")
    told = await asked(tmp_path, "run", "--service", "probe", "--reason", "look")
    activity = next(one for one in told["groups"] if one["consumer_group"] == "probe.activity")
    assert activity["held"] == {"dead": 1}


async def test_a_long_history_is_compared_to_its_end(
    probe: RunningService, tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.shadow.comparing.PAGE", 2)
    await publish(ACTIVITY, *(pain(uuid4(), 1) for _ in range(5)))
    await probe.settled()
    told = await asked(tmp_path, "run", "--service", "probe", "--reason", "look")
    activity = next(one for one in told["groups"] if one["consumer_group"] == "probe.activity")
    assert (activity["same"], activity["different"]) == (5, {})


def test_the_time_of_a_history_never_goes_back() -> None:
    clock = HistoryClock()
    for day, told in ((2, 2), (1, 2), (3, 3)):
        clock.pass_to(datetime(2026, 1, day, tzinfo=UTC))
        assert clock.now() == datetime(2026, 1, told, tzinfo=UTC)
