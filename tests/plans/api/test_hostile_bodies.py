"""Given a body that is made to cost the ingress much, then it is refused, and nobody else waits for that."""

import asyncio
from contextlib import ExitStack
from time import perf_counter
from typing import Any
from uuid import uuid4

import orjson
import pytest
from fastapi import Request

from services.plans.api.cloudevents import LARGE_MAX, read_events
from shared.http import BODY_SIZE_MAX, Problem
from tests.fixtures.services import RunningService
from tests.fixtures.tokens import Tokens
from tests.plans.api.test_plans_service import BATCH, as_json, now, post
from tests.plans.given import pain_reported

WAIT_S = 10.0
"""For others' answers, on a busy machine. Where each value is looked at, the body below takes half a minute."""


async def test_a_batch_of_very_many_values_keeps_nobody_waiting(plans: RunningService, tokens: Tokens) -> None:
    kind = {"specversion": "1.0", "type": "org.careloop.session.completed.v1"}
    event = orjson.dumps({**kind, "data": {"exercises": [{}] * 21_000}})
    batch = b"[" + b",".join([event] * 120) + b"]"
    hostile = asyncio.create_task(post(plans, tokens.member(uuid4()), batch, content_type=BATCH))
    longest, began = 0.0, perf_counter()
    while not hostile.done():
        assert (await plans.client.get("/health/live")).status_code == 200
        await asyncio.sleep(0.005)
        longest, began = max(longest, perf_counter() - began), perf_counter()
    answer = await hostile
    assert answer.status_code == 413
    assert {one["problem"]["type"] for one in answer.json()["results"]} == {"urn:careloop:problem:oversized"}
    assert longest < WAIT_S


async def test_an_event_that_is_nested_too_deeply_costs_itself(plans: RunningService, tokens: Tokens) -> None:
    member_id = uuid4()
    good, deep = (as_json(pain_reported(member_id, at=now(), score=score)) for score in (3, 4))
    batch = orjson.dumps([good, {**deep, "later": "here"}]).replace(b'"here"', b"[" * 500 + b"]" * 500)
    answer = await post(plans, tokens.member(member_id), batch, content_type=BATCH)
    assert answer.status_code == 202
    assert [one["status"] for one in answer.json()["results"]] == ["accepted", "rejected"]
    await plans.settled()


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come of it is kept meanwhile: up to 8 MiB of each member who sends slowly."""
    monkeypatch.setattr("services.plans.api.cloudevents.READ_S", 0.1)
    with pytest.raises(Problem) as refused, ExitStack() as held:
        await read_events(slowly(b"["), held)
    assert (refused.value.status, refused.value.code) == (408, "too-slow")


async def test_few_large_bodies_are_kept_at_once_and_small_ones_wait_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given as many large batches that come slowly as there is room for, then one more waits until one has ended, and
    is refused where none does; events of phones are taken meanwhile."""
    large, place = b" " * (BODY_SIZE_MAX + 1), "services.plans.api.cloudevents"
    monkeypatch.setattr(f"{place}._large", asyncio.Semaphore(LARGE_MAX))
    with ExitStack() as others, ExitStack() as held:
        under_way = [asyncio.create_task(read_events(slowly(large), others)) for _ in range(LARGE_MAX)]
        waiting = asyncio.create_task(read_events(slowly(large + b"[{}]", ends=True), held))
        await asyncio.sleep(0)
        assert await read_events(slowly(b"[{}]", ends=True), held) == (True, [{}])
        monkeypatch.setattr(f"{place}.ROOM_WAIT_S", 0.1)
        with pytest.raises(Problem) as refused:
            await read_events(slowly(large), held)
        assert (refused.value.status, refused.value.code) == (503, "busy")
        assert not waiting.done()
        others.close()
        assert await asyncio.wait_for(waiting, 5) == (True, [{}])
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


def slowly(body: bytes, *, ends: bool = False) -> Request:
    """A batch of which this much has come; nothing comes after it, unless it ends there."""
    pieces: list[Any] = [{"type": "http.request", "body": body, "more_body": not ends}]

    async def receive() -> Any:
        if pieces:
            return pieces.pop()
        return await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": [(b"content-type", BATCH.encode())]}
    return Request(scope, receive)
