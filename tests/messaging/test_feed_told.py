"""Processes tell each other through Valkey that there is something to look at; each poll that they wait for instead is
a second in which a clinician looks at what is no longer so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.messaging.api import feed as feed_module
from services.messaging.api.feed import FeedHub
from services.messaging.store.feed import save_feed_entries
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.messaging.conftest import Clinic
from tests.messaging.given import COACH, MEMBER, NOW
from tests.messaging.test_feed import entry

ANOTHER = b"another process"


class Process:
    """A hub on real servers, and another process that hears what it is told."""

    def __init__(self, clinic: Clinic, valkey: Redis, url: str, namespace: str) -> None:
        self.clinic, self.valkey = clinic, valkey
        self.hub = FeedHub(connections_max=8)
        settings = SimpleNamespace(namespace=namespace, valkey_url=SecretStr(url))
        self.service: Any = SimpleNamespace(
            database=self, requests=self, settings=settings, health=SimpleNamespace(stopping=False)
        )
        self.channel = f"{namespace}.careloop.messaging.feed"
        self.hearing = valkey.pubsub()
        self.heard: list[bytes] = []
        """Names of the processes that told something."""
        self.failures = 0
        """How often the database is away from now on."""

    def acquire(self, **named: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise asyncpg.CannotConnectNowError("the database is away")
        return self.clinic.database.acquire(**named)

    async def commit(self) -> None:
        async with self.clinic.transaction(MEMBER) as connection:
            await save_feed_entries(connection, [entry()], now=NOW)

    async def told(self, times: int) -> bool:
        """Whether this process has told the others so often."""
        while message := await self.hearing.get_message(ignore_subscribe_messages=True):
            self.heard.append(message["data"])
        return len([name for name in self.heard if name != ANOTHER]) >= times

    async def listening(self) -> int:
        """Processes that are subscribed."""
        ((_, count),) = await cast(Any, self.valkey.pubsub_numsub(self.channel))
        return int(count)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        await self.hearing.subscribe(self.channel)
        running = asyncio.create_task(self.hub.run(self.service))
        try:
            await eventually(self._is_there, within=20)
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])
            await self.hearing.aclose()  # type: ignore[no-untyped-call]

    async def _is_there(self) -> bool:
        return self.hub._end >= 0 and await self.listening() == 2


@pytest.fixture
async def valkey(servers: RunningServers) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.valkey_url) as opened:
        yield opened


@pytest.fixture
def process(clinic: Clinic, valkey: Redis, servers: RunningServers, namespace: str) -> Process:
    return Process(clinic, valkey, servers.valkey_url, namespace)


async def test_what_was_committed_before_the_database_was_away_is_told_once_it_is_back(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "POLL_S", 0.02)
    async with process.run():
        await process.commit()
        process.failures = 3
        process.hub.wake()
        await eventually(lambda: process.told(1), within=10, what="the others are told")
        assert process.failures == 0


async def test_who_hears_of_others_does_not_tell_them_so(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each commit would wake every process as often as there are processes."""
    monkeypatch.setattr(feed_module, "POLL_S", 3600.0)
    shown: list[str] = []

    async def watch() -> None:
        reader = COACH.practitioner_id
        async for event in process.hub._counted(process.service, reader, [reader], None, float("inf")):
            shown.append(cast(str, event.event))

    async with process.run():
        window = asyncio.create_task(watch())
        for number in range(4):
            await eventually(lambda: len(shown) > number, within=10)  # noqa: B023 - asked within this round
            await process.commit()
            await process.valkey.publish(process.channel, ANOTHER)
        await eventually(lambda: len(shown) == 5, within=10)
        await process.commit()
        process.hub.wake()
        await eventually(lambda: process.told(1), within=10)
        assert [name for name in process.heard if name != ANOTHER] == [process.hub._name]
        window.cancel()
        await asyncio.wait([window])


async def test_who_hears_nothing_any_more_goes_on_telling_the_only_one_who_does(
    clinic: Clinic, valkey: Redis, servers: RunningServers, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a process whose subscription was lost, then it does not take the one process that listens for itself, which
    would let that one's windows wait for a poll."""
    monkeypatch.setattr(feed_module, "POLL_S", 3600.0)
    user = f"{namespace}-hub"
    await cast(Any, valkey.acl_setuser(user, enabled=True, passwords=["+secret"], channels=["*"], categories=["+@all"]))
    address = servers.valkey_url.rpartition("@")[2]
    process = Process(clinic, valkey, f"redis://{user}:secret@{address}", namespace)
    try:
        async with process.run():
            await cast(Any, valkey.acl_setuser(user, enabled=True, commands=["-subscribe"]))
            await valkey.client_kill_filter(user=user)
            await eventually(lambda: not process.hub._hears, within=20, what="it knows that it hears nothing")
            assert await process.listening() == 1
            for times in (1, 2, 3):
                await process.commit()
                process.hub.wake()
                await eventually(lambda: process.told(times), within=10)  # noqa: B023 - asked within this round
    finally:
        await valkey.acl_deluser(user)


@pytest.mark.parametrize(("hears", "listening", "times"), [(True, 1, 0), (True, 2, 3), (False, 0, 0), (False, 1, 3)])
async def test_who_listens_alone_tells_nobody(
    hears: bool, listening: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a Valkey that reached so many processes, when this one has committed thrice more within a moment, then it
    has told the others each time, and itself not again."""
    told_of: list[bytes] = []

    class Valkey:
        async def publish(self, _channel: str, name: bytes) -> int:
            told_of.append(name)
            return listening

    monkeypatch.setattr(feed_module, "POLL_S", 3600.0)
    hub, settings = FeedHub(connections_max=1), SimpleNamespace(namespace="")
    hub._hears = hears
    announcing = asyncio.create_task(hub._announce(cast(Any, SimpleNamespace(settings=settings)), cast(Any, Valkey())))
    try:
        hub._tell.set()
        await eventually(lambda: told_of, within=5)
        for _ in range(3):
            hub._tell.set()
            for _ in range(5):
                await asyncio.sleep(0)
        assert len(told_of) - 1 == times
    finally:
        announcing.cancel()
