"""What `up` says of who can sign in: first those whose queue has something in it."""

from pathlib import Path
from uuid import UUID

import httpx
import pytest

from deploy.local.issuer.people import Person, save_people
from deploy.simulator import waiting
from deploy.simulator.access import Access
from tests.simulator.test_seeding import stack_of

NAMES = ("Ana", "Ben", "Cleo", "Dan")
PEOPLE = tuple(Person(subject=UUID(int=n), name=name, roles=("coach",)) for n, name in enumerate(NAMES, 1))


def test_who_has_the_most_open_alerts_is_named_first() -> None:
    assert waiting.lines(PEOPLE, {PEOPLE[1].subject: 1, PEOPLE[2].subject: 4}) == [
        "Cleo (coach), 4 open alerts",
        "Ben (coach), 1 open alert",
        "Ana (coach)",
        "Dan (coach)",
    ]


async def test_only_alerts_that_nobody_has_taken_count(tmp_path: Path) -> None:
    queues = {
        str(PEOPLE[0].subject): ["acknowledged"],
        str(PEOPLE[1].subject): ["open", "acknowledged", "open"],
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            subject = dict(httpx.QueryParams(request.content.decode()))["subject_token"]
            return httpx.Response(200, json={"access_token": subject})
        asking = request.headers["Authorization"].removeprefix("Bearer ")
        return httpx.Response(200, json=[{"status": status} for status in queues[asking]])

    stack = stack_of({"messaging": None}, data=tmp_path, bootstrap="", namespace="").model_copy(  # type: ignore[dict-item]
        update={"issuer_url": "http://issuer.test"}
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        access = Access(stack=stack, client=client, secret="")
        assert await waiting.count_open(access, PEOPLE[:2]) == {PEOPLE[0].subject: 0, PEOPLE[1].subject: 2}


async def test_people_are_told_of_although_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From inside an event loop, as `up` does."""
    monkeypatch.setattr(waiting, "ASK_S", 0.2)
    stack = stack_of({}, data=tmp_path, bootstrap="", namespace="")
    save_people(stack.issuer_data, PEOPLE)
    assert waiting.tell_people(stack) == [f"{name} (coach)" for name in NAMES]
