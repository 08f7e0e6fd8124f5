"""What several journeys begin with."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import Console, sign_in
from tests.browser.population import DAY, Member

pytestmark = pytest.mark.browser
expect.set_options(timeout=15_000)
MARTA = Member(given="Marta", family="Muster")
JOSE = Member(given="José", family="García", zone="America/Denver")


def now() -> datetime:
    return datetime.now(UTC)


async def new_member(console: Console, member: Member) -> None:
    await console.live(*member.begins(now() - 2 * DAY))


async def spike(console: Console, member: Member, *, pain: int = 7, episode: str = "one") -> None:
    session = member.session(now() - timedelta(seconds=9), pain)
    found = member.spike(session, pain, episode)
    await console.live(session, found, member.revise(found, from_step=3, to_step=2))


async def second_window(browser: Browser, console: Console, name: str, path: str = "/console/") -> Page:
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(10_000)
    await sign_in(page, console, name, path=path)
    return page
