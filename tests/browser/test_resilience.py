"""The console when something is away, cut off, too late or hostile."""

import re

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from shared.auth import Authenticator
from tests.browser.conftest import Console, sign_in, until_live
from tests.browser.population import twelve_weeks
from tests.browser.steps import JOSE, MARTA, new_member, now, spike

pytestmark = pytest.mark.browser
expect.set_options(timeout=15_000)


async def test_sign_in_says_so_when_the_issuer_is_away(console: Console, context: BrowserContext) -> None:
    away = Authenticator("http://127.0.0.1:9", "careloop")
    console.service.app.state.authenticator = away
    page = await context.new_page()
    await page.goto(f"{console.url}/console/")
    await page.get_by_role("link", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Not right now")
    await away.close()


async def test_everything_works_without_script(console: Console, browser: Browser) -> None:
    await new_member(console, MARTA)
    await spike(console, MARTA)
    window = await browser.new_context(java_script_enabled=False)
    page = await window.new_page()
    page.set_default_timeout(10_000)
    await sign_in(page, console, "Ana Ruiz")
    await page.locator(".who", has_text="Marta").click()
    await expect(page.locator("#detail")).to_contain_text("Marta")
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.locator(".toast")).to_contain_text("Acknowledged: Marta Muster")
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator('[data-part="now"]')).to_contain_text("Marta")
    await page.goto(f"{console.url}/console/members/{MARTA.member_id}")
    await page.get_by_label("Message to Marta Muster").fill("Written without script")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".bubble.team")).to_contain_text("Written without script")
    await page.locator(".picture .box", has_text="Pain spike").click()
    await expect(page.locator("#event")).to_contain_text("pain 7, usual 3")
    await page.get_by_text("Book a visit").click()
    await page.get_by_role("button", name="Show free times").click()
    await page.locator(".slot-day input").last.check()
    await page.locator("#slots button", has_text="Book").click()
    await expect(page.locator(".visit")).to_contain_text("booked")


async def test_offline_is_said_heals_by_itself_and_nothing_is_missed(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await new_member(console, JOSE)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz", path=f"/console/members/{MARTA.member_id}")
    await until_live(page)
    await page.get_by_label("Message to Marta Muster").fill("Typed before the line broke")
    await context.set_offline(True)
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".toast")).to_contain_text("Nothing was lost")
    await expect(page.get_by_label("Message to Marta Muster")).to_have_value("Typed before the line broke")
    await spike(console, MARTA)
    await context.set_offline(False)
    await until_live(page)
    await expect(page.locator(".row", has_text="pain 7, usual 3")).to_be_visible()
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".bubble.team")).to_have_count(1)
    await page.reload()
    await expect(page.locator(".bubble.team")).to_have_count(1)


async def test_a_session_ends_when_nobody_is_there_and_keeps_what_was_typed(
    console: Console, context: BrowserContext
) -> None:
    await new_member(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz", path=f"/console/members/{MARTA.member_id}")
    await until_live(page)
    field = page.get_by_label("Message to Marta Muster")
    await field.fill("Half a sentence")
    async with console.database.acquire() as connection:
        await connection.execute("update console_sessions set active_at = active_at - interval '31 minutes'")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator('[data-line="out"]')).to_contain_text("Signed out")
    await expect(field).to_have_value("Half a sentence")
    again = await context.new_page()
    await sign_in(again, console, "Ana Ruiz")
    await page.bring_to_front()
    await page.reload()
    await expect(field).to_have_value("Half a sentence")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".bubble.team")).to_contain_text("Half a sentence")


async def test_a_form_from_elsewhere_does_nothing(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await spike(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz")
    await page.locator(".who").first.click()
    form = page.locator('#detail form[data-key="a"]')
    address = f"{console.url}{await form.get_attribute('action')}"
    token = await form.locator('[name="form_token"]').input_value()
    attempts: tuple[tuple[dict[str, str | float | bool], dict[str, str]], ...] = (
        ({"form_token": "guessed"}, {}),
        ({}, {}),
        ({"form_token": token}, {"Origin": "https://evil.example"}),
    )
    for fields, headers in attempts:
        answer = await page.request.post(address, form=fields, headers=headers)
        assert answer.status == 403
    async with console.database.acquire() as connection:
        assert await connection.fetchval("select status from alerts") == "open"


async def test_every_answer_forbids_what_the_console_does_not_need(console: Console, context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz")
    for path in (
        "/console/",
        "/console/sign-in",
        "/console/members/nonsense",
        "/console/fragments/queue",
        "/console/fragments/nothing",
    ):
        answer = await page.request.get(f"{console.url}{path}")
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store" or answer.status >= 400
    html = await page.content()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", html)
    assert len(html.encode()) < 100_000


async def test_the_page_stays_under_a_hundred_kilobytes(console: Console, context: BrowserContext) -> None:
    await console.live(*twelve_weeks(MARTA, now=now(), seed=1, spike_days_ago=0.05))
    page = await context.new_page()
    sizes: list[int] = []
    await sign_in(page, console, "Ana Ruiz")
    page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", "0"))))
    await page.goto(f"{console.url}/console/members/{MARTA.member_id}")
    await page.wait_for_load_state("load")
    assert 10_000 < max(sizes) < 100_000
