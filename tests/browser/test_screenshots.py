"""Every page at three widths in both schemes: kept in build/screenshots to be looked at, and checked by axe."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page

from tests.browser.conftest import SCREENSHOTS, WAIT_MS, Console, sign_in, until_live
from tests.browser.population import Member, twelve_weeks

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WIDTHS = (390, 1280, 2560)
LONG = Member(given="Maximiliana-Konstanze", family="Featherstonehaugh-Wrzeszczynska-Okonkwo", zone="America/Los_Angeles")
MARTA = Member(given="Marta", family="Muster")
JOSE = Member(given="José", family="García Núñez", language="es", zone="America/Denver", usual=4)
RUTH = Member(given="Ruth", family="Adeyemi")


async def fill(console: Console) -> None:
    """Three alerts of different urgency, one quiet member, a conversation."""
    now = console.now
    await console.live(*twelve_weeks(RUTH, now=now, seed=4))
    await console.live(*twelve_weeks(MARTA, now=now, seed=1, spike_days_ago=0.02))
    await console.live(*twelve_weeks(JOSE, now=now, seed=2, spike_days_ago=1.1))
    await console.live(*twelve_weeks(LONG, now=now, seed=3, spike_days_ago=0.2))


async def violations(page: Page) -> list[dict[str, Any]]:
    """What axe finds against WCAG 2.2 A and AA."""
    results = await Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
    return [
        {"rule": v["id"], "help": v["help"], "where": [node["target"] for node in v["nodes"]][:4]}
        for v in results.response["violations"]
    ]


@pytest.mark.timeout(300)
async def test_every_page_in_every_size_and_scheme(console: Console, browser: Browser) -> None:
    await fill(console)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    problems: dict[str, Any] = {}
    state: Any = None
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            height = 844 if width < 720 else 1440 if width > 2000 else 860
            window = await browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, storage_state=state,  # type: ignore[arg-type]
            )
            window.set_default_timeout(WAIT_MS)
            page = await window.new_page()
            if state is None:
                await page.goto(f"{console.url}/console/")
                problems |= await take(page, "sign-in", scheme, width)
                await sign_in(page, console, "Ana Ruiz")
                state = await window.storage_state()
            for name, path in PAGES.items():
                await page.goto(f"{console.url}{path}")
                await until_live(page)
                if name == "alert":
                    await page.locator(".row .who").first.click()
                    await page.locator("#detail .facts").wait_for()
                if name == "resolve":
                    await page.locator(".row .who").first.click()
                    await page.locator('#detail [data-key="r"] summary').click()
                if name == "book":
                    await page.locator(".book summary").click()
                    await page.locator(".book form button").first.click()
                    await page.locator("#slots form, #slots .empty").first.wait_for()
                problems |= await take(page, name, scheme, width)
            await window.close()
    assert {name: found for name, found in problems.items() if found} == {}


PAGES = {
    "triage": "/console/",
    "alert": "/console/",
    "resolve": "/console/",
    "search": "/console/?q=",
    "member": f"/console/members/{MARTA.member_id}",
    "book": f"/console/members/{MARTA.member_id}",
    "member-long-name": f"/console/members/{LONG.member_id}",
}


async def take(page: Page, name: str, scheme: str, width: int) -> dict[str, Any]:
    """A picture of the whole page; what axe finds; whether anything sticks out at the side."""
    await page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True, animations="disabled")
    found: list[Any] = list(await violations(page))
    wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wider > 0:
        found.append({"rule": "page is wider than the window", "by_px": wider})
    return {f"{name} {width} {scheme}": found}


