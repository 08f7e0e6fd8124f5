"""An alert asks again while somebody has it before their eyes, or has already begun to close it."""

import re

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.conftest import Console, sign_in, until_live
from tests.browser.population import LUCIA, Member
from tests.browser.steps import MARTA, new_member, now, spike

pytestmark = pytest.mark.browser
expect.set_options(timeout=15_000)
EVA = Member(given="Eva", family="Soto", language="es", pt=LUCIA)
LATER = re.compile(r"This alert asked again \d+ s ago: Emergency, Red flag\. Look at it again; nothing was changed")


async def flag(console: Console, member: Member, disposition: str) -> None:
    session = member.session(now(), 8)
    found = member.flag(session)
    data = found.data.model_copy(update={"disposition": disposition, "findings": (f"sign-of-{disposition}",)})
    await console.live(session, found.model_copy(update={"data": data}))


async def state(console: Console) -> tuple[str, str, int]:
    async with console.database.acquire() as connection:
        row = await connection.fetchrow("select status, priority, repeats from alerts")
    assert row
    return row["status"], row["priority"], row["repeats"]


async def sent_by(form: Locator, console: Console) -> tuple[str, dict[str, str | float | bool]]:
    """Where a form is sent to, and what it says besides what somebody chooses."""
    fields: dict[str, str | float | bool] = {
        name: await form.locator(f'[name="{name}"]').input_value() for name in ("form_token", "seen", "key")
    }
    return f"{console.url}{await form.get_attribute('action')}", fields


async def without_live_updates(page: Page) -> None:
    """The page stays as it is: its stream finds nobody, as on a bad line."""
    await page.route("**/console/live**", lambda route: route.abort())


async def open_alert(page: Page, console: Console, name: str) -> None:
    await without_live_updates(page)
    await sign_in(page, console, name)
    await page.locator(".who").first.click()
    await expect(page.locator("#detail")).to_contain_text("Urgent")


async def test_a_key_on_a_stale_page_takes_nothing_on(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    page = await context.new_page()
    await open_alert(page, console, "Omar Haddad")
    await flag(console, MARTA, "emergency")
    await page.keyboard.press("a")
    await expect(page.locator("#toasts")).to_contain_text(LATER)
    assert await state(console) == ("open", "emergency", 1)
    await expect(page.locator("#detail")).to_contain_text("Emergency")
    await expect(page.locator("#queue .row")).to_contain_text("Emergency")
    await page.keyboard.press("a")
    await expect(page.locator("#toasts")).to_contain_text("Acknowledged: Marta Muster")
    assert await state(console) == ("acknowledged", "emergency", 1)


async def test_an_emergency_stands_first_whoever_is_asked(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await spike(console, MARTA)
    await flag(console, MARTA, "emergency")
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz")
    rows = page.locator('[data-part="now"] .row')
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("Emergency")
    await expect(rows.first).to_contain_text("asks on-call")
    await expect(rows.last).to_contain_text("Soon")


async def test_what_was_typed_to_close_it_is_kept_and_the_alert_shown_as_it_is_now(
    console: Console, context: BrowserContext
) -> None:
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    page = await context.new_page()
    await sign_in(page, console, "Omar Haddad")
    await until_live(page)
    await page.locator(".who").first.click()
    await page.locator('#detail [data-key="r"] summary').click()
    await page.get_by_label("Referred on").check()
    await page.get_by_label("Note for the team").fill("Seen by her GP tomorrow.")
    # Live, but the detail is not fetched again under somebody who is filling it in.
    await flag(console, MARTA, "emergency")
    await expect(page.locator("#queue .row")).to_contain_text("Emergency")
    await page.locator('#detail [data-key="r"] button').click()
    sheet = page.locator('#detail [data-key="r"]')
    await expect(sheet.locator(".wrong")).to_contain_text(LATER)
    await expect(page.locator("#detail .alert-head")).to_contain_text("Emergency")
    await expect(page.get_by_label("Referred on")).to_be_checked()
    await expect(page.get_by_label("Note for the team")).to_have_value("Seen by her GP tomorrow.")
    assert await state(console) == ("open", "emergency", 1)
    await sheet.locator("button").click()
    await expect(page.locator("#toasts")).to_contain_text("Resolved: Marta Muster")
    await expect(page.locator("#detail")).to_contain_text("Seen by her GP tomorrow.")


async def test_putting_off_what_became_an_emergency_shows_it_without_the_choice(
    console: Console, context: BrowserContext
) -> None:
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    page = await context.new_page()
    await open_alert(page, console, "Omar Haddad")
    await page.locator('#detail [data-key="s"] summary').click()
    await page.get_by_label("in 2 hours").check()
    await flag(console, MARTA, "emergency")
    await page.locator('#detail [data-key="s"] button').click()
    await expect(page.locator("#toasts")).to_contain_text(LATER)
    await expect(page.locator('#detail [data-key="s"]')).to_have_count(0)
    assert await state(console) == ("open", "emergency", 1)


async def test_without_script_it_is_said_and_kept_as_well(console: Console, browser: Browser) -> None:
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    window = await browser.new_context(java_script_enabled=False)
    page = await window.new_page()
    page.set_default_timeout(10_000)
    await sign_in(page, console, "Omar Haddad")
    await page.locator(".who").first.click()
    await page.locator('#detail [data-key="r"] summary').click()
    await page.get_by_label("Referred on").check()
    await page.get_by_label("Note for the team").fill("Seen by <b>her</b> GP tomorrow.")
    await flag(console, MARTA, "emergency")
    await page.locator('#detail [data-key="r"] button').click()
    await expect(page.locator(".toast")).to_contain_text(LATER)
    await expect(page.locator("#detail .alert-head")).to_contain_text("Emergency")
    await expect(page.get_by_label("Referred on")).to_be_checked()
    await expect(page.get_by_label("Note for the team")).to_have_value("Seen by <b>her</b> GP tomorrow.")
    assert await state(console) == ("open", "emergency", 1)
    await page.locator('#detail [data-key="r"] button').click()
    await expect(page.locator(".toast")).to_contain_text("Resolved: Marta Muster")
    await window.close()


async def test_it_is_said_in_spanish_too(console: Console, context: BrowserContext) -> None:
    await new_member(console, EVA)
    await flag(console, EVA, "same-day")
    page = await context.new_page()
    await without_live_updates(page)
    await sign_in(page, console, "Lucía Prieto")
    await page.locator(".who").first.click()
    await page.locator('#detail form[data-key="a"]').wait_for()
    await flag(console, EVA, "emergency")
    await page.keyboard.press("a")
    await expect(page.locator("#toasts")).to_contain_text(
        re.compile(r"Esta alerta volvió a avisar hace \d+ s: Emergencia, Señal de alarma\. Mírela otra vez")
    )
    assert await state(console) == ("open", "emergency", 1)


async def test_a_form_that_does_not_say_what_it_was_shown_with_does_nothing(
    console: Console, context: BrowserContext
) -> None:
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    page = await context.new_page()
    await open_alert(page, console, "Omar Haddad")
    form = page.locator('#detail form[data-key="a"]')
    address, fields = await sent_by(form, console)
    del fields["seen"]
    answer = await page.request.post(address, form=fields, headers={"X-Console": "1"})
    assert answer.status == 409
    assert await state(console) == ("open", "urgent", 0)


async def test_a_form_that_is_sent_twice_acts_once(console: Console, context: BrowserContext) -> None:
    """The second time by a copy that comes when the alert has been given back."""
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    page = await context.new_page()
    await open_alert(page, console, "Omar Haddad")
    form = page.locator('#detail form[data-key="a"]')
    address, fields = await sent_by(form, console)
    await page.keyboard.press("a")
    await expect(page.locator("#toasts")).to_contain_text("Acknowledged")
    await page.keyboard.press("u")
    await expect(page.locator("#toasts")).to_contain_text("Undone")
    late = await page.request.post(address, form=fields, headers={"X-Console": "1"})
    assert (late.status, await state(console)) == (409, ("open", "urgent", 0))
    assert "That was done before. The page shows how things are now." in await late.text()
    # A press that is meant is another one, also on a page that was not fetched again; none is taken before it
    # has shown what became of the one before.
    await expect(form.locator("button")).to_be_enabled()
    await page.keyboard.press("a")
    await expect(page.locator("#toasts")).to_contain_text("Acknowledged")
    assert await state(console) == ("acknowledged", "urgent", 0)


async def test_who_learns_that_it_was_done_before_may_mean_something_else(
    console: Console, context: BrowserContext
) -> None:
    """The answer to a hand-over was lost; told so, they give the alert to somebody else from the same sheet."""
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    page = await context.new_page()
    await open_alert(page, console, "Omar Haddad")
    await page.locator('#detail [data-key="h"] summary').click()
    form = page.locator('#detail [data-key="h"] form')
    address, fields = await sent_by(form, console)
    first = await page.request.post(address, form={**fields, "to_role": "coach"}, headers={"X-Console": "1"})
    assert first.status == 200
    await form.locator('[value="oncall"]').check()
    await form.locator("button").click()
    await expect(form.locator(".wrong")).to_have_text("That was done before. The page shows how things are now.")
    await form.locator("button").click()
    await expect(page.locator("#toasts")).to_contain_text("Handed over")


async def test_undo_needs_no_look(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await flag(console, MARTA, "same-day")
    page = await context.new_page()
    await open_alert(page, console, "Omar Haddad")
    await page.keyboard.press("a")
    await expect(page.locator("#toasts")).to_contain_text("Acknowledged")
    await page.keyboard.press("u")
    await expect(page.locator("#toasts")).to_contain_text("Undone")
    assert await state(console) == ("open", "urgent", 0)
