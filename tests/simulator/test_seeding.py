"""A small population is played through the real services on the fast clock, and played again without a trace."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import orjson
import pytest

from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from deploy.local.stack import Stack, StackService
from deploy.simulator.access import Access
from deploy.simulator.backlog import backlog
from deploy.simulator.care_team import CareTeam
from deploy.simulator.clinic import prepare_clinic
from deploy.simulator.clinic_time import ClinicTime, ask_progress
from deploy.simulator.diary import CohortEntry, load_diary
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import Cohort, clinicians
from deploy.simulator.playing import Play
from deploy.simulator.publish import open_phones
from deploy.simulator.seed import Seeding
from deploy.simulator.stream import Publication
from shared.clock import Anchor, wall_now, write_anchor
from shared.events.catalogue import TOPICS
from tests.fixtures.services import RunningService, RunService
from tests.fixtures.tokens import Tokens
from tests.fixtures.topics import TopicFactory
from tests.journeys.clinic import SERVICES

DAYS = 10
P = load_parameters()


class SignedAccess(Access):
    """Reaches services of this process, with tokens that the test signs."""

    tokens: Tokens

    async def _fetch(self, kind: str, subject: UUID | None) -> str:
        if kind == "member":
            assert subject is not None
            return self.tokens.member(subject)
        if kind == "staff":
            (person,) = [c for c in clinicians() if c.practitioner_id == subject]
            return self.tokens.person(person.practitioner_id, person.role, name=person.name)
        return self.tokens.operator if kind == "operator" else self.tokens.app


def stack_of(running: dict[str, RunningService], *, data: Path, bootstrap: str, namespace: str) -> Stack:
    return Stack(
        state="seeding",
        supervisor_pid=0,
        supervisor_mark="",
        data=data,
        namespace=namespace,
        kafka_bootstrap=bootstrap,
        postgres_url="",
        valkey_url="",
        embedded=(),
        console_url="",
        issuer_url="",
        issuer_data=data / "issuer",
        mail_url="",
        smtp_port=0,
        clock_file=data / "clock.json",
        simulation=data / "simulations" / "test",
        services={name: StackService(url=f"http://{name}.test", database_url="") for name in running},
    )


@pytest.fixture
async def held_stack(
    run_service: RunService, tokens: Tokens, topics: TopicFactory, namespace: str, tmp_path: Path
) -> AsyncIterator[SignedAccess]:
    """Four services whose clinic time is held some days ago."""
    await topics(*(topic.name for topic in TOPICS), partitions=2)
    now = wall_now()
    write_anchor(tmp_path / "clock.json", Anchor(clinic_at=now - timedelta(days=DAYS), wall_at=now, speed=0.0))
    mail = MailSinkSettings(data=tmp_path / "mail", port=0, smtp_port=0)
    async with MailSink(mail) as sink, contextlib.AsyncExitStack() as opened:
        running: dict[str, RunningService] = {}
        for name, (build, settings) in SERVICES.items():
            more: dict[str, Any] = {"smtp_port": sink.smtp_port} if name == "notifications" else {}
            running[name] = await opened.enter_async_context(
                run_service(build, settings, name=name, clock_file=tmp_path / "clock.json", **more)
            )
        some = next(iter(running.values())).service.settings
        stack = stack_of(running, data=tmp_path, bootstrap=some.kafka_bootstrap, namespace=namespace)
        mounts = {f"http://{name}.test": httpx.ASGITransport(app=r.service.app) for name, r in running.items()}
        client = await opened.enter_async_context(httpx.AsyncClient(mounts=mounts, timeout=30))
        access = SignedAccess(stack=stack, client=client, secret="")
        access.tokens = tokens
        yield access


async def play_to_the_present(access: SignedAccess, cohort: Cohort) -> Seeding:
    data = access.stack.simulation
    entry = load_diary(data).entry_of(cohort) or CohortEntry.new(cohort, via="both")
    time = ClinicTime(clock_file=access.stack.clock_file)
    async with open_phones(access, via="both") as phones:
        play = Play(entry=entry, phones=phones, data=data)
        await prepare_clinic(access, members=play.members, now=time.now())
        team = CareTeam(access=access, p=P)
        await team.add_members(cohort.name, play.members)
        seeding = Seeding(access=access, time=time, play=play, team=team, say=lambda line: None)
        await seeding.run()
    return seeding


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_population_lives_through_its_days_and_is_not_doubled(held_stack: SignedAccess) -> None:
    access = held_stack
    cohort = Cohort(seed=21, members=8, days=DAYS, starts_on=(wall_now() - timedelta(days=DAYS)).date())

    first = await play_to_the_present(access, cohort)

    assert not first.play.sent.refused
    assert first.play.sent.intakes == 8
    assert not access.stack.clock_file.exists()
    assert await held_back(access) == {"dead": 0, "parked": 0, "waiting": 0}
    sent = [p for p in all_sent(first) if p.kind == "event"]
    assert len(sent) > 10
    for publication in sent:
        path = f"/v1/events/{quote(source_of_body(publication.body), safe='')}/{publication.id}"
        answer = await access.ask("GET", "plans", path, headers=await access.as_app())
        assert answer.json()["status"] == "applied", publication.body
        assert answer.json()["safety"] == "applied"
    messages = await count_messages(access, first)

    # Its diary lost, it is all sent again: the same bytes, and nobody notices.
    (access.stack.simulation / "simulation.json").unlink(missing_ok=True)
    entry = CohortEntry.new(cohort, via="both")
    async with open_phones(access, via="both") as phones:
        again = Play(entry=entry, phones=phones, data=access.stack.simulation)
        await again.send_due(wall_now())
    assert set(again.sent.refused) <= {"intake: already-enrolled"}
    await first._settle(wall_now() - timedelta(minutes=1))
    assert await count_messages(access, first) == messages
    assert await held_back(access) == {"dead": 0, "parked": 0, "waiting": 0}


async def held_back(access: Access) -> dict[str, int]:
    answers = await ask_progress(access.client, access.stack)
    return {word: sum(answer[word] for answer in answers.values()) for word in ("dead", "parked", "waiting")}


def all_sent(seeding: Seeding) -> list[Publication]:
    return [p for p in backlog(seeding.play.entry.cohort) if p.at <= seeding.play.entry.sent_until]


def source_of_body(body: bytes) -> str:
    return str(orjson.loads(body)["source"])


async def count_messages(access: Access, seeding: Seeding) -> int:
    """Messages by members, over all conversations."""
    count = 0
    for member in seeding.play.members:
        answer = await access.ask(
            "GET",
            "messaging",
            f"/v1/members/{member.member_id}/messages",
            headers=await access.as_member(member.member_id),
        )
        count += sum(message["sender_role"] == "member" for message in answer.json()["messages"])
    return count
