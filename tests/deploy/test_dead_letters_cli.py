"""Given a stack with dead letters, when an operator asks or acts, then it is said plainly and no payload is shown."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import Result

from deploy.dead_letters.listing import read_since
from deploy.dead_letters.readers import readers_of
from deploy.dead_letters.running import Done, Runner
from deploy.local.stack import SERVICES
from services.plans.main import build as build_plans
from services.plans.settings import PlansSettings
from shared.database import Connection, FromNextRelease
from shared.dead_letters import Bench, Step, replay
from shared.migrating import migrate
from shared.replaying import Fate
from tests.deploy.given_stack import careloop, write_stack
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish, RunningService, RunService, member_key
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.operating import fix, readers
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, add_tables, build, pain


@pytest.fixture
async def probe(
    run_service: RunService, topics: TopicFactory, database: DatabaseFactory
) -> AsyncIterator[RunningService]:
    await topics(ACTIVITY, MEMBERS, "careloop.plans", partitions=2)
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    async with run_service(build, name="probe", database_url=url) as running:
        yield running


@pytest.fixture
def data(
    tmp_path: Path, servers: RunningServers, namespace: str, probe: RunningService, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A stack whose one service is the probe."""
    monkeypatch.setattr("deploy.cli.dead_letters.readers_of", lambda _: readers())
    write_stack(tmp_path, servers=servers, namespace=namespace, databases={"probe": probe.database_url})
    return tmp_path


@pytest.fixture
async def parked(probe: RunningService, publish: Publish) -> UUID:
    """A dead letter with two events behind it, and a record without a value, which is in no queue."""
    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 2)))
    await publish.raw(ACTIVITY, None, key=b"nobody")
    await probe.settled()
    return member


async def asked(data: Path, *arguments: str) -> Any:
    answer = await careloop("dead-letters", *arguments, "--json", data=data)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


async def refused(data: Path, *arguments: str) -> str:
    answer: Result = await careloop("dead-letters", *arguments, data=data)
    assert answer.exit_code == 1
    assert "Traceback" not in answer.output
    assert answer.stderr.startswith("careloop: ")
    assert answer.stderr.count("\n") == 1
    return answer.stderr


async def test_the_list_tells_what_is_held_and_nothing_of_what_is_in_it(data: Path, parked: UUID) -> None:
    rows = await asked(data, "list")
    told = {(row["group"], row["state"], row["reason"], row["behind"], row["replays"]) for row in rows}
    assert told == {
        ("probe.activity", "dead", "bug", 2, 0), ("probe.activity", "parked", "behind", 1, 0),
        ("probe.activity", "parked", "behind", 0, 0), ("probe.activity", "dead", "null-value", 0, 0),
        ("probe.safety", "dead", "null-value", 0, 0),
    }  # fmt: skip
    shown = await careloop("dead-letters", "list", data=data)
    assert "ProbeBug at probe.py" in shown.stdout
    for hidden in (str(parked), "score", "urn:test:app"):
        assert hidden not in shown.stdout + json.dumps(rows)
    assert len(await asked(data, "list", "--state", "dead")) == 3
    assert [row["reason"] for row in await asked(data, "list", "--reason", "bug")] == ["bug"]
    assert len(await asked(data, "list", "--member", str(parked), "--group", "probe.activity")) == 3
    assert await asked(data, "list", "--topic", MEMBERS) == []
    assert len(await asked(data, "list", "--since", "10m")) == 5
    assert await asked(data, "list", "--since", "2100-01-01T00:00:00+00:00") == []


async def test_the_list_comes_in_pages(data: Path, parked: UUID) -> None:
    seen: list[int] = []
    while page := await asked(data, "list", "--limit", "2", "--after", str(max(seen, default=0))):
        seen += [row["id"] for row in page]
    assert len(seen) == len(set(seen)) == 5
    shown = await careloop("dead-letters", "list", "--limit", "2", data=data)
    assert f"--service probe --after {seen[1]}" in shown.stdout


async def test_the_summary_counts_and_names_parked_members(data: Path, parked: UUID) -> None:
    rows = {(row["group"], row["state"], row["reason"]): row for row in await asked(data, "list", "--summary")}
    assert rows[("probe.activity", "parked", "behind")]["events"] == 2
    assert rows[("probe.activity", "parked", "behind")]["bytes"] > 200
    (queue,) = await asked(data, "list", "--state", "parked", "--summary")
    assert (queue["member"], queue["events"]) == (str(parked), 2)
    (dead,) = await asked(data, "list", "--reason", "bug")
    assert queue["head"] == dead["id"]
    for arguments in (["--summary"], ["--summary", "--state", "parked"]):
        assert (await careloop("dead-letters", "list", *arguments, data=data)).exit_code == 0


async def test_the_payload_is_shown_for_a_reason_that_is_kept(data: Path, parked: UUID, probe: RunningService) -> None:
    (row,) = await asked(data, "list", "--reason", "bug")
    shown = await asked(data, "show", str(row["id"]), "--service", "probe")
    assert (shown["member"], shown["source"], shown["behind"]) == (str(parked), "urn:test:app", 2)
    assert "payload" not in shown
    assert "score" not in json.dumps(shown)
    audit = "select done_by, action, reason, details from delivery.operations"
    assert await probe.service.database.fetch(audit) == []
    assert "must say why" in await refused(data, "show", str(row["id"]), "--service", "probe", "--payload")
    answer = await asked(data, "show", str(row["id"]), "--service", "probe", "--payload", "--reason", "ticket 7")
    assert answer["payload"]["data"]["score"] == 9
    assert answer["headers"] == [["content-type", "application/cloudevents+json"]]
    (done,) = await probe.service.database.fetch(audit)
    assert (done["action"], done["reason"]) == ("dead-letters show payload", "ticket 7")
    assert done["details"]["held_id"] == row["id"]
    shown_plainly = await careloop("dead-letters", "show", str(row["id"]), "--service", "probe", data=data)
    assert "held at" in shown_plainly.stdout


async def test_replaying_says_what_became_and_ends_with_one_while_any_fails(
    data: Path, parked: UUID, probe: RunningService
) -> None:
    failing = await careloop("dead-letters", "replay", "--all", "--reason", "try", "--json", data=data)
    assert failing.exit_code == 1
    told = json.loads(failing.stdout)
    assert not told["ok"]
    assert [one["failed"] for one in told["done"]] == [True, True, True]
    await fix(probe)
    dry = await careloop(
        "dead-letters", "replay", "--held-for", "bug", "--dry-run", "--reason", "look", data=data
    )  # fmt: skip
    assert dry.exit_code == 0, dry.output
    assert "dry run; 3 applied" in dry.stdout
    assert "3 events would be taken" in dry.stdout
    done = await asked(data, "replay", "--held-for", "bug", "--reason", "mended", "--rate", "1000/s")
    assert [fate["outcome"] for fate in done["done"][0]["events"]] == ["applied"] * 3
    assert await asked(data, "list", "--state", "parked") == []


async def test_what_one_cannot_get_over_is_told_with_it(
    data: Path, parked: UUID, probe: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a lock or a row that fails a queue each time, when all are replayed, then that one is told as failed, in a
    sentence, and the others had their turn."""
    (bad,) = await asked(data, "list", "--reason", "bug")

    async def fail(connection: Connection, held_id: int, bench: Bench) -> Step:
        if held_id == bad["id"]:
            raise FromNextRelease
        return await replay(connection, held_id, bench)

    monkeypatch.setattr("deploy.dead_letters.running.replay", fail)
    told = await careloop("dead-letters", "replay", "--all", "--reason", "try", "--json", data=data)
    assert told.exit_code == 1
    done = {one["id"]: one for one in json.loads(told.stdout)["done"]}
    assert (len(done), done[bad["id"]]["failed"]) == (3, True)
    assert done[bad["id"]]["error"].startswith("FromNextRelease at ")
    assert [one["error"] for held_id, one in done.items() if held_id != bad["id"]] == [None, None]
    told = await careloop("dead-letters", "replay", "--all", "--reason", "try", data=data)
    assert told.exit_code == 1
    assert f"probe {bad['id']}: It could not be tried, and is as it was: FromNextRelease" in told.stdout


async def test_replaying_goes_by_the_state_that_is_asked_for(data: Path, parked: UUID) -> None:
    answer = await careloop(
        "dead-letters", "replay", "--state", "parked", "--service", "probe", "--dry-run", "--reason", "look", "--json",
        data=data,
    )  # fmt: skip
    told = [one["answer"].partition(" behind ")[0] for one in json.loads(answer.stdout)["done"]]
    assert told == ["It is parked"] * 2


async def test_a_limit_holds_for_all_services_together(
    data: Path, parked: UUID, probe: RunningService, servers: RunningServers, namespace: str
) -> None:
    databases = dict.fromkeys(("one", "other"), probe.database_url)
    write_stack(data, servers=servers, namespace=namespace, databases=databases)
    for limit, of_each in ((1, {"one": 1}), (4, {"one": 3, "other": 1})):
        answer = await careloop(
            "dead-letters", "replay", "--all", "--limit", str(limit), "--reason", "try", "--json", data=data
        )  # fmt: skip
        assert Counter(done["service"] for done in json.loads(answer.stdout)["done"]) == of_each


async def test_what_is_held_of_a_group_that_nobody_has_any_more_is_found(
    data: Path, parked: UUID, probe: RunningService
) -> None:
    await probe.service.database.execute("update delivery.held_events set consumer_group = 'probe.gone' where blocks")
    assert len(await asked(data, "list", "--group", "probe.gone")) == 3


async def test_who_interrupts_a_replay_is_told_what_is_done(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(runner: Runner) -> AsyncIterator[Done]:
        yield Done(runner.service, 7, Step(fates=[Fate(held_id=7, outcome="applied")]))
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "run", interrupted)
    answer = await careloop("dead-letters", "replay", "--all", "--reason", "x", data=data)
    assert answer.exit_code == 130
    assert "probe 7: 1 applied" in answer.stdout
    assert answer.stderr.startswith("careloop: Interrupted. ")
    answer = await careloop("dead-letters", "replay", "--all", "--reason", "x", "--json", data=data)
    assert (answer.exit_code, json.loads(answer.stdout)["done"][0]["id"]) == (130, 7)


async def test_discarding_needs_a_reason_and_more_than_one_a_yes(data: Path, parked: UUID) -> None:
    assert "--yes" in await refused(data, "discard", "--held-for", "null-value", "--reason", "noise")
    assert "must say why" in await refused(data, "discard", "--held-for", "null-value", "--yes", "--reason", " ")
    done = await asked(data, "discard", "--held-for", "null-value", "--yes", "--reason", "noise")
    assert [one["result"] for one in done["done"]] == ["done", "done"]
    assert "ID counts within one service" in await refused(data, "discard", "3", "--reason", "x")
    (row,) = await asked(data, "list", "--reason", "bug")
    shown = await careloop(
        "dead-letters", "discard", str(row["id"]), "--service", "probe", "--reason", "lost", data=data
    )  # fmt: skip
    assert shown.exit_code == 0
    assert "1 discarded; 2 events behind them taken" in shown.stdout
    assert await asked(data, "list") == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["replay", "--reason", "x"], "Say which"),
        (["replay", "1", "--service", "probe", "--all", "--reason", "x"], "not both"),
        (["replay", "--all", "--reason", "x", "--rate", "fast"], "--rate is a number"),
        (["replay", "--all", "--reason", "x", "--since", "monday"], "--since is"),
        (["list", "--since", "2026-01-01"], "--since is"),
        (["list", "--service", "billing"], "This stack has no service billing"),
        (["list", "--group", "probe.safty"], "Nothing is held, and no consumer group is called probe.safty"),
        (["list", "--summary", "--topic", "careloop.activities"], "Nothing is held, and no topic is called"),
        (["replay", "--group", "probe.safty", "--reason", "x"], "no consumer group is called probe.safty"),
        (["discard", "--group", "probe.safty", "--reason", "x", "--yes"], "no consumer group is called probe.safty"),
        (["show", "1", "--service", "probe"], "probe holds no event 1"),
    ],
)
async def test_what_makes_no_sense_is_said_in_one_sentence(data: Path, arguments: list[str], sentence: str) -> None:
    assert sentence in await refused(data, *arguments)


async def test_an_id_that_is_gone_is_no_failure(data: Path) -> None:
    done = await asked(data, "replay", "77", "--service", "probe", "--reason", "x")
    assert done["done"][0]["answer"] == "It is not here: it was replayed or discarded meanwhile, or never was."


async def test_the_handlers_are_the_installed_services_own(
    tmp_path: Path, run_service: RunService, topics: TopicFactory, servers: RunningServers, namespace: str,
    publish: Publish, database: DatabaseFactory,
) -> None:  # fmt: skip
    """plans with an event that cannot be read, and one behind it."""
    await topics("careloop.members", ACTIVITY, "careloop.visits", "careloop.plans", partitions=1)
    url, member = await database("plans"), uuid4()
    async with run_service(build_plans, PlansSettings, name="plans", database_url=url) as plans:
        write_stack(tmp_path, servers=servers, namespace=namespace, databases={"plans": url})
        await publish.raw(ACTIVITY, b"{", key=member_key(member))
        await publish(ACTIVITY, pain(member, 2))
        await plans.settled()
        (row,) = await asked(tmp_path, "list", "--group", "plans.activity", "--state", "dead")
        done = await asked(tmp_path, "discard", str(row["id"]), "--service", "plans", "--reason", "torn")
        assert [fate["outcome"] for fate in done["done"][0]["events"]] == ["waiting"]
        (left,) = await asked(tmp_path, "list", "--group", "plans.activity")
        assert (left["state"], left["behind"]) == ("waiting", 0)


def test_every_service_has_its_readers() -> None:
    groups = {service: sorted(readers_of(service)) for service in SERVICES}
    assert groups["enrollment"] == []
    assert "plans.safety" in groups["plans"]
    assert all(group.startswith(f"{service}.") for service, of_it in groups.items() for group in of_it)


def test_since_is_a_span_or_a_time_with_its_zone() -> None:
    now = datetime(2026, 11, 2, 8, tzinfo=UTC)
    assert read_since("90m", now) == now - timedelta(minutes=90)
    assert read_since("3d", now) == now - timedelta(days=3)
    assert read_since("2026-11-01T08:00:00+00:00", now) == now - timedelta(days=1)
    for wrong in ("3w", "-3d", "", "2026-11-01"):
        with pytest.raises(ValueError):  # noqa: PT011  # its text is for no person
            read_since(wrong, now)


@pytest.mark.parametrize("action", [["replay"], ["discard", "--yes"]])
async def test_what_one_filter_keeps_back_is_not_touched(data: Path, parked: UUID, action: list[str]) -> None:
    others = {
        "--group": "probe.members", "--topic": MEMBERS, "--held-for": "too-old", "--member": str(uuid4()),
        "--since": "2100-01-01T00:00:00+00:00",
    }  # fmt: skip
    ours = {"--group": "probe.activity", "--topic": ACTIVITY, "--held-for": "bug", "--member": str(parked)}
    before = await asked(data, "list")
    for name, other in others.items():
        given = [part for both in (ours | {name: other}).items() for part in both]
        assert (await asked(data, *action, *given, "--reason", "look"))["done"] == [], name
    assert await asked(data, "list") == before
