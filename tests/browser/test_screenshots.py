"""Every page at three widths in both schemes: kept in build/screenshots to be looked at, and checked by axe."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page

from services.messaging.handlers.handle_alerts import acknowledge, resolve
from services.messaging.handlers.send_message import Sender, send_message
from shared.commands import new_command
from shared.database import Connection
from shared.events.vocabulary import SenderRole
from shared.member_locks import lock_members
from shared.outcomes import Refusal
from tests.browser.conftest import SCREENSHOTS, WAIT_MS, Console, sign_in, until_live
from tests.browser.population import ANA, HOUR, LUCIA, Member, twelve_weeks

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WIDTHS = (390, 1280, 2560)
AXE_WIDTH = 1280
"""Where both schemes are checked; the narrow layout once more in light."""
LONG = Member(
    given="Maximiliana-Konstanze", family="Featherstonehaugh-Wrzeszczynska-Okonkwo", zone="America/Los_Angeles"
)
MARTA = Member(given="Marta", family="Muster")
JOSE = Member(given="José", family="García Núñez", language="es", zone="America/Denver", usual=4, pt=LUCIA)
RUTH = Member(given="Ruth", family="Adeyemi")


async def fill(console: Console) -> None:
    """Alerts of different urgency and state, one quiet member, a conversation, a visit."""
    now = console.now
    await console.live(*twelve_weeks(RUTH, now=now, seed=4))
    await console.live(*twelve_weeks(MARTA, now=now, seed=1, spike_days_ago=0.02))
    await console.live(*twelve_weeks(JOSE, now=now, seed=2, spike_days_ago=1.1))
    await console.live(*twelve_weeks(LONG, now=now, seed=3, spike_days_ago=0.2))
    async with console.database.acquire() as connection, connection.transaction():
        await lock_members(connection, [one.member_id for one in (RUTH, MARTA, JOSE, LONG)])
        for alert in await connection.fetch(
            "select alert_id, member_id, settled_at from alerts where settled_at is not null"
        ):
            command = new_command("resolve", service="messaging", member_ids=[alert["member_id"]])
            late = alert["member_id"] == RUTH.member_id
            await resolve(
                connection,
                alert_id=alert["alert_id"],
                by=ANA,
                outcome="plan-adjusted",
                note=None,
                seen=0,
                command=command,
                now=now - 3 * HOUR if late else alert["settled_at"],
            )
        taken = await connection.fetchval(
            "select alert_id from alerts where member_id = $1 and status = 'open'", JOSE.member_id
        )
        command = new_command("acknowledge", service="messaging", member_ids=[JOSE.member_id])
        await acknowledge(connection, alert_id=taken, by=ANA, seen=None, command=command, now=now - 20 * HOUR)
        await talk(connection, now=now)
        flag_session = RUTH.session(now - HOUR / 4, 8)
        flag = RUTH.flag(flag_session)
        urgent = flag.model_copy(update={"data": flag.data.model_copy(update={"disposition": "same-day"})})
    await console.live(flag_session, urgent)


async def talk(connection: Connection, *, now: datetime) -> None:
    """Marta writes, Ana answers; Ana books her a visit with Omar."""
    lines: tuple[tuple[SenderRole, UUID, str, str, int], ...] = (
        (
            "member",
            MARTA.member_id,
            "Marta Muster",
            "The knee is hot after yesterday's squats. Should I skip today?",
            25,
        ),
        ("coach", ANA.practitioner_id, ANA.name, "Thank you for telling us. How is it this morning, from 0 to 10?", 18),
        ("member", MARTA.member_id, "Marta Muster", "About a 5 now. Stairs are worse.", 9),
    )
    for role, sender_id, name, body, minutes in lines:
        command = new_command("send-message", service="messaging", member_ids=[MARTA.member_id])
        sent = await send_message(
            connection,
            sender=Sender(role=role, sender_id=sender_id, name=name),
            message_id=uuid4(),
            body=body,
            alert_id=None,
            command=command,
            now=now - timedelta(minutes=minutes),
        )
        assert not isinstance(sent, Refusal)


@pytest.mark.timeout(500)
async def test_every_page_in_every_size_and_scheme(console: Console, browser: Browser) -> None:
    await fill(console)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    problems: dict[str, Any] = {}
    runs: Any = (("Ana Ruiz", PAGES, WIDTHS), ("Lucía Prieto", SPANISH, (390, 1280)))
    for person, pages, sizes in runs:
        state: Any = None
        for scheme in ("light", "dark"):
            for width in sizes:
                height = 844 if width < 720 else 1440 if width > 2000 else 860
                window = await browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme=scheme,
                    storage_state=state,
                )
                window.set_default_timeout(WAIT_MS)
                page = await window.new_page()
                if state is None:
                    await page.goto(f"{console.url}/console/")
                    problems |= await take(page, "sign-in", scheme, width)
                    await page.locator("a.first").click()
                    problems |= await take(page, "issuer", scheme, width)
                    await sign_in(page, console, person)
                    state = await window.storage_state()
                for name, path in pages.items():
                    await page.goto(f"{console.url}{path}")
                    await until_live(page)
                    await STATES.get(name, as_it_is)(page)
                    problems |= await take(page, name, scheme, width)
                await window.close()
    found = [f"{name}: {what}" for name, all_found in problems.items() for what in all_found]
    assert found == []


async def violations(page: Page) -> list[dict[str, Any]]:
    """What axe finds against WCAG 2.2 A and AA, and its best practices."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    results = await Axe().run(page, options={"runOnly": tags})
    return [
        {"rule": v["id"], "help": v["help"], "where": [node["target"] for node in v["nodes"]][:4]}
        for v in results.response["violations"]
    ]


async def as_it_is(_: Page) -> None:
    """The page as it comes."""


async def chosen(page: Page) -> None:
    await page.locator(".row .who").first.click()
    await page.locator("#detail .facts").wait_for()


async def resolving(page: Page) -> None:
    await chosen(page)
    await page.locator('#detail [data-key="r"] summary').click()


async def booking(page: Page) -> None:
    await page.locator(".book summary").click()
    await page.locator(".book form button").first.click()
    await page.locator("#slots form, #slots .empty").first.wait_for()


async def keys_shown(page: Page) -> None:
    await page.keyboard.press("?")
    await page.locator("#keys[open]").wait_for()


async def reading_the_chart(page: Page) -> None:
    await page.locator("[data-chart]").focus()
    await page.keyboard.press("End")
    await page.locator(".picture .box").nth(1).click()
    await page.locator("#event").wait_for()


PAGES = {
    "triage": "/console/",
    "alert": "/console/",
    "resolve": "/console/",
    "search": "/console/?q=",
    "member": f"/console/members/{MARTA.member_id}",
    "book": f"/console/members/{MARTA.member_id}",
    "member-long-name": f"/console/members/{LONG.member_id}",
    "keys": "/console/",
}
SPANISH = {"es-alert": "/console/", "es-member": f"/console/members/{JOSE.member_id}"}
STATES = {
    "alert": chosen,
    "resolve": resolving,
    "book": booking,
    "keys": keys_shown,
    "es-alert": chosen,
    "member": reading_the_chart,
}


async def take(page: Page, name: str, scheme: str, width: int) -> dict[str, Any]:
    """A picture of the whole page; what axe finds; whether anything sticks out at the side."""
    await page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True, animations="disabled")
    found: list[Any] = list(await violations(page)) if width == AXE_WIDTH or (scheme == "light" and width < 720) else []
    wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wider > 0:
        found.append({"rule": "page is wider than the window", "by_px": wider})
    return {f"{name} {width} {scheme}": found}
