"""Whom the console has something to show to at the moment: who can sign in, with how many alerts wait for each."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx

from deploy.local.issuer.people import Person, load_people
from deploy.local.stack import Stack
from deploy.simulator.access import Access, Away, Refused, open_access

ASK_S = 3.0
"""A stack that is too busy to say it shall not keep its user waiting: they are then told in the usual order."""


def tell_people(stack: Stack) -> list[str]:
    """Everyone who can sign in, a line each, those with the most open alerts first.

    May be called where an event loop runs already; takes at most some seconds.
    """
    people = load_people(stack.issuer_data)
    with ThreadPoolExecutor(max_workers=1) as own_loop:
        waiting = own_loop.submit(lambda: asyncio.run(_ask(stack, people))).result()
    return lines(people, waiting)


def lines(people: Sequence[Person], waiting: Mapping[UUID, int]) -> list[str]:
    """Such as `Ana Sample (coach), 3 open alerts`. Sorting is stable: who has as many stays in the order of before."""
    ordered = sorted(people, key=lambda person: -waiting.get(person.subject, 0))
    return [_line(person, waiting.get(person.subject, 0)) for person in ordered]


def _line(person: Person, count: int) -> str:
    told = f"{person.name} ({', '.join(person.roles)})"
    return f"{told}, {count} open alert{'' if count == 1 else 's'}" if count else told


async def _ask(stack: Stack, people: Sequence[Person]) -> dict[UUID, int]:
    try:
        async with asyncio.timeout(ASK_S), open_access(stack) as access:
            return await count_open(access, people)
    except (Away, Refused, httpx.HTTPError, OSError, ValueError):  # a TimeoutError is an OSError
        return {}


async def count_open(access: Access, people: Sequence[Person]) -> dict[UUID, int]:
    """How many alerts that nobody has taken yet each person would find. Raises Away, Refused, httpx.HTTPError."""

    async def count(person: Person) -> int:
        headers = await access.as_staff(person.subject)
        answer = await access.ask("GET", "messaging", "/v1/alerts", headers=headers)
        return sum(alert["status"] == "open" for alert in answer.json())

    return dict(zip((p.subject for p in people), await asyncio.gather(*map(count, people)), strict=True))
