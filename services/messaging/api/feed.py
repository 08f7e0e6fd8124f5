"""The live feed: server-sent events with a durable cursor.

The truth is the table (store/feed.py). Valkey only says "look now" to other processes; while it is down every process
looks each second, and nothing is lost. main.py puts the hub on `app.state.feed_hub`: the console's pages stream
through it too.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID, uuid4

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent

from services.messaging.api.access import Clinician, This
from services.messaging.domain.feed import FeedLook, join_looks, place_cursor
from services.messaging.domain.people import ONCALL_AUDIENCE
from services.messaging.store.feed import load_feed_head, look_at_feed, look_at_saved, prune_feed
from shared.auth import authenticator_of
from shared.clock import monotonic, wall_now
from shared.database import is_transient
from shared.http import Problem
from shared.outcomes import Answer
from shared.service import Service

POLL_S: Final = 1.0
"""How often the feed is looked at without a wake-up: how late an entry can be while Valkey is down."""
REST_S: Final = 0.001
"""Between two looks: a burst of commits is one look."""
REST_A_WINDOW_S: Final = 0.00002
"""What a look finds goes to every open window that it is for."""
HEARTBEAT_S: Final = 15
"""A comment, so that proxies keep the connection and a dead one is noticed."""
RETRY_MS: Final = 1_000
BATCH: Final = 200
LOOK_MAX: Final = 2_000
"""Rows that one look brings for all windows together."""

router = APIRouter(prefix="/v1", tags=["feed"])


class FeedHub:
    """Shows this process's readers what it has just entered, and looks at the feed for all of them where another did. A
    reader that this does not reach, such as one that has just come or is behind, reads the table for itself."""

    def __init__(self, *, connections_max: int) -> None:
        self._connections_max = connections_max
        self._name = uuid4().hex.encode()
        self._open: Counter[UUID] = Counter()
        """Windows by reader."""
        self._audiences: Counter[UUID] = Counter()
        self._look, self._tell = asyncio.Event(), asyncio.Event()
        self._own = self._hears = False
        """Whether this process committed something, and whether it is told of others that do."""
        self._saved: list[FeedLook] | None = None
        """What this process has entered since the last look; None where there may be more: the table is read."""
        self._end = self._told = -1
        """How far the last look reached, and where the feed ended when the others were told last."""
        self._next: asyncio.Future[FeedLook] | None = None

    # -- wake-ups

    def wake(self, answer: Answer | None = None) -> None:
        """This process committed something: show it, and tell the others. Cheap; called after every commit. What it
        wrote need not be read again where `answer` tells all of it."""
        if answer is None:
            self._saved = None
        elif not answer:
            return
        elif self._saved is not None:
            self._saved.append(look_at_saved(answer))
        self._own = True
        self._look.set()

    def _look_again(self) -> None:
        """Somebody else may have committed something."""
        self._saved = None
        self._look.set()

    async def run(self, service: Service) -> None:
        """Background work of the service: watch the table, listen to Valkey, tell Valkey."""
        valkey = Redis.from_url(
            service.settings.valkey_url.get_secret_value(), socket_timeout=5, socket_connect_timeout=2,
            health_check_interval=15,
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(service))
                group.create_task(self._listen(service, valkey))
                group.create_task(self._announce(service, valkey))
        finally:
            with suppress(Exception):
                await valkey.aclose()

    async def _watch(self, service: Service) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._look.wait()
            except TimeoutError:
                self._saved = None
            self._look.clear()
            own, self._own = self._own, False
            saved, self._saved = self._saved, []
            # The first look finds where the feed ends, not all that is in it.
            audiences = list(self._audiences) if self._end >= 0 else []
            try:
                look = join_looks(saved, after=self._end, audiences=audiences) if saved else None
                if look is None:
                    async with service.database.acquire(timeout=10) as connection:
                        look = await look_at_feed(connection, audiences=audiences, after=self._end, limit=LOOK_MAX)
            except Exception as error:
                if not is_transient(error):
                    raise
                self._own, self._saved = self._own or own, None
                await asyncio.sleep(POLL_S)
                continue
            if look.end != self._end:
                self._end = look.end
                self._show(look)
            if own and look.head != self._told:
                self._told = look.head
                self._tell.set()
            if look.end < look.head:
                self._look_again()
            await asyncio.sleep(max(REST_S, self._open.total() * REST_A_WINDOW_S))

    def _show(self, look: FeedLook) -> None:
        following, self._next = self._next, None
        if following is not None and not following.done():
            following.set_result(look)

    def _following(self) -> "asyncio.Future[FeedLook]":
        """The look that comes next, for all who wait for it."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def _listen(self, service: Service, valkey: Redis) -> None:
        while True:
            try:
                async with valkey.pubsub() as subscription:
                    await subscription.subscribe(_channel(service))
                    self._hears = True
                    self._look_again()  # whatever was announced before we listened
                    while True:
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=2.0)
                        if message is not None and message["data"] != self._name:
                            self._look_again()
            except (RedisError, OSError, TimeoutError):
                self._hears = False
                await asyncio.sleep(POLL_S)

    async def _announce(self, service: Service, valkey: Redis) -> None:
        while True:
            await self._tell.wait()
            self._tell.clear()
            with suppress(RedisError, OSError, TimeoutError):
                listening = await valkey.publish(_channel(service), self._name)
                if listening <= self._hears:  # nobody but this process; whoever comes looks by itself for as long
                    await asyncio.sleep(POLL_S)

    # -- readers

    def respond(
        self, service: Service, *, reader_id: UUID, oncall: bool, after: int | None, valid_for_s: float
    ) -> EventSourceResponse:
        """Stream what this person may see, from the cursor on, until their sign-in ends. Problem 429 when they have too
        many open windows. The client connects again with the last id it saw and misses nothing."""
        if self._open[reader_id] >= self._connections_max:
            raise Problem(
                429, "too-many-connections", f"At most {self._connections_max} live windows a person.",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        audiences = [reader_id, *([ONCALL_AUDIENCE] if oncall else [])]
        return EventSourceResponse(
            self._counted(service, reader_id, audiences, after, monotonic() + valid_for_s),
            ping=HEARTBEAT_S,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _counted(
        self, service: Service, reader_id: UUID, audiences: list[UUID], after: int | None, until: float
    ) -> AsyncIterator[ServerSentEvent]:
        self._open[reader_id] += 1
        self._audiences.update(audiences)
        try:
            async for event in self._stream(service, audiences, after, until):
                yield event
        finally:
            self._open[reader_id] -= 1
            self._audiences.subtract(audiences)
            self._open, self._audiences = +self._open, +self._audiences

    async def _stream(
        self, service: Service, audiences: list[UUID], after: int | None, until: float
    ) -> AsyncIterator[ServerSentEvent]:
        async with service.requests.acquire(timeout=10) as connection:
            position, afresh = place_cursor(asked=after, head=await load_feed_head(connection))
        # Sent at once: a client that is cut off before the first change still knows where it stood.
        cursor = str(position)
        yield ServerSentEvent(event="reset" if afresh else "ready", id=cursor, data=cursor, retry=RETRY_MS)
        shown: FeedLook | None = None
        while monotonic() < until and not service.health.stopping:
            following, end = self._following(), self._end  # before the table: what grows later is in what follows
            look = shown if shown and shown.end == end else None
            entries = look.since(position, audiences) if look else None
            if look is None or entries is None:
                async with service.requests.acquire(timeout=10) as connection:
                    look = await look_at_feed(connection, audiences=audiences, after=position, limit=BATCH)
                if look.head < position:  # the database was set back, and what this window has seen is not in it
                    yield ServerSentEvent(event="reset", id=str(look.head), data=str(look.head))
                entries = look.since(position, audiences) or []
            for entry in entries:
                data = orjson.dumps(entry.as_event()).decode()
                yield ServerSentEvent(event="change", id=str(entry.number), data=data)
            position, shown = look.end, None
            if look.end >= look.head:
                done, _ = await asyncio.wait([following], timeout=max(0.0, min(until - monotonic(), HEARTBEAT_S)))
                shown = following.result() if done else None
        yield ServerSentEvent(event="bye", data="sign-in ended" if monotonic() >= until else "restarting")


def _channel(service: Service) -> str:
    namespace = service.settings.namespace
    return f"{namespace}.careloop.messaging.feed" if namespace else "careloop.messaging.feed"


async def hub_of(request: Request) -> FeedHub:
    """FastAPI dependency: the hub of this process."""
    hub: FeedHub = request.app.state.feed_hub
    return hub


_bearer = HTTPBearer(auto_error=False)


@router.get("/feed", response_class=EventSourceResponse)
async def get_feed(
    request: Request,
    caller: Clinician,
    service: This,
    hub: Annotated[FeedHub, Depends(hub_of)],
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)],
    after: Annotated[int | None, Query(ge=0)] = None,
    last_event_id: Annotated[int | None, Header(ge=0)] = None,
) -> EventSourceResponse:
    """Changes that the caller may see, as server-sent events: `ready` (the cursor), then `change` with what to fetch
    again; `reset` when the cursor is too old: load everything afresh. Cursor: `Last-Event-ID`, else `?after=`."""
    claims = await authenticator_of(request).claims(credentials.credentials)
    return hub.respond(
        service,
        reader_id=caller.person_id,
        oncall="oncall" in caller.roles,
        after=last_event_id if last_event_id is not None else after,
        valid_for_s=float(claims["exp"]) - wall_now().timestamp(),
    )


async def prune_old_entries(service: Service, *, kept_days: int) -> None:
    """Background work: forget feed entries that nobody may ask for any more."""
    while True:
        async with service.database.acquire(timeout=30) as connection:
            pruned = await prune_feed(connection, before=service.clock.now() - timedelta(days=kept_days))
        await asyncio.sleep(0.2 if pruned else 600)
