"""What a coach does in a day, in a real browser: by pointer, by keyboard, without script, offline and signed out."""

import re
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from shared.events import PainSpiked
from tests.browser.conftest import Console, sign_in, until_live
from tests.browser.population import HOUR, twelve_weeks
from tests.browser.steps import JOSE, MARTA, new_member, now, second_window, spike

pytestmark = pytest.mark.browser
expect.set_options(timeout=15_000)


async def test_signing_in_and_out(console: Console, context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz", path="/console/?q=")
    assert page.url == f"{console.url}/console/?q="
    cookies = {cookie["name"]: cookie for cookie in await context.cookies()}
    assert cookies["careloop_console"]["httpOnly"]
    assert cookies["careloop_console"]["sameSite"] == "Lax"
    assert "careloop_sign_in" not in cookies
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("link", name="Sign in").wait_for()
    # The old cookie is worth nothing any more, not only gone from this browser.
    await context.add_cookies([cookies["careloop_console"]])  # type: ignore[list-item]
    await page.goto(f"{console.url}/console/")
    await page.get_by_role("link", name="Sign in").wait_for()


async def test_who_is_no_clinician_gets_no_session(console: Console, context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page, console, "Olga Operator")
    await expect(page.locator(".wrong")).to_contain_text("no clinical role")
    assert "careloop_console" not in {cookie["name"] for cookie in await context.cookies()}


async def test_an_answer_that_this_browser_did_not_ask_for_signs_nobody_in(
    console: Console, context: BrowserContext, browser: Browser
) -> None:
    page = await context.new_page()
    await page.goto(f"{console.url}/console/")
    async with page.expect_request(re.compile("/authorize")) as asked:
        await page.get_by_role("link", name="Sign in").click()
    state = re.search("state=([^&]+)", (await asked.value).url)
    assert state
    stranger = await (await browser.new_context()).new_page()
    await stranger.goto(f"{console.url}/console/signed-in?code=x&state={state[1]}")
    await expect(stranger.locator(".wrong")).to_contain_text("did not work")
    await page.goto(f"{console.url}/console/signed-in?code=x&state=forged")
    await expect(page.locator(".wrong")).to_contain_text("did not work")


async def test_an_alert_appears_by_itself(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz")
    await expect(page.locator("#queue")).to_contain_text("Nobody needs you right now")
    await until_live(page)
    await spike(console, MARTA)
    arrived = page.locator("#queue .row", has_text="Marta Muster")
    await expect(arrived).to_contain_text("pain 7, usual 3")
    await expect(arrived).to_contain_text("Soon")
    await expect(page.locator(".rail .count")).to_have_text("1")
    await expect(page.locator("#queue")).not_to_contain_text("Nobody needs you")


async def test_what_is_new_never_moves_the_row_in_hand(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await new_member(console, JOSE)
    await spike(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Omar Haddad")
    await until_live(page)
    await page.keyboard.press("j")
    held = page.locator("#queue .row.chosen")
    await expect(held).to_contain_text("Marta")
    await page.locator("#detail .facts").wait_for()
    before = await held.bounding_box()
    assert before is not None
    # More urgent, so it belongs above.
    session = JOSE.session(now(), 8)
    flag = JOSE.flag(session)
    urgent = flag.model_copy(update={"data": flag.data.model_copy(update={"disposition": "same-day"})})
    await console.live(session, urgent)
    await expect(page.locator("#show-new")).to_have_text("1 new, show it")
    assert await held.bounding_box() == before, "the row in hand has moved"
    await expect(page.locator("#queue .row")).to_have_count(1)
    await page.keyboard.press("n")
    await expect(page.locator("#queue .row")).to_have_count(2)
    await expect(page.locator("#queue .row").first).to_contain_text("José")
    await expect(page.locator("#queue .row.chosen")).to_contain_text("Marta")


async def test_acknowledge_undo_and_resolve_by_keyboard_alone(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await spike(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz")
    await until_live(page)
    await page.keyboard.press("j")
    await expect(page.locator("#detail")).to_contain_text("3 above counts as a spike")
    await page.keyboard.press("a")
    await expect(page.locator("#toasts")).to_contain_text("Acknowledged: Marta Muster")
    await expect(page.locator('[data-part="taken"] .row')).to_contain_text("taken by you")
    await page.keyboard.press("u")
    await expect(page.locator("#toasts")).to_contain_text("Undone")
    await expect(page.locator('[data-part="now"] .row')).to_contain_text("Marta")
    await page.locator('#detail form[data-key="a"]').wait_for()
    await page.keyboard.press("r")
    await page.locator('#detail input[value="reached-member"]').wait_for()
    await expect(page.locator('#detail input[name="outcome"]').first).to_be_focused()
    await page.keyboard.press("Space")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Called, icing tonight.")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#toasts")).to_contain_text("Resolved: Marta Muster")
    await expect(page.locator('[data-part="resolved"] .row')).to_contain_text("Reached the member, Ana Ruiz")
    await expect(page.locator("#detail")).to_contain_text("Called, icing tonight.")


async def test_snooze_and_hand_over(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await new_member(console, JOSE)
    await spike(console, MARTA)
    await spike(console, JOSE)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz")
    await until_live(page)
    await page.locator(".who", has_text="Marta").click()
    await expect(page.locator("#detail")).to_contain_text("Marta")
    await page.locator('#detail [data-key="s"] summary').click()
    await page.get_by_label("in 2 hours").check()
    await page.locator('#detail [data-key="s"] button').click()
    await expect(page.locator('[data-part="snoozed"] .row')).to_contain_text("Marta")
    await page.locator(".who", has_text="José").click()
    await expect(page.locator("#detail")).to_contain_text("José")
    await page.locator('#detail [data-key="h"] summary').click()
    await page.get_by_label("Omar Haddad, physical therapist").check()
    await page.locator('#detail [data-key="h"] button').click()
    await expect(page.locator('[data-part="team"] .row')).to_contain_text("asks Omar Haddad")


async def test_who_was_first_is_told(console: Console, context: BrowserContext, browser: Browser) -> None:
    await new_member(console, MARTA)
    await spike(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz")
    await until_live(page)
    await page.locator(".who").first.click()
    form = page.locator('#detail form[data-key="a"]')
    fields: dict[str, str | float | bool] = {
        "form_token": await form.locator('[name="form_token"]').input_value(),
        "return_to": "/console/",
    }
    address = await form.get_attribute("action")
    omar = await second_window(browser, console, "Omar Haddad")
    await omar.locator(".who").first.click()
    await omar.locator('#detail form[data-key="a"] button').click()
    await expect(page.locator('[data-part="taken"] .row')).to_contain_text("taken by Omar Haddad")
    late = await page.request.post(f"{console.url}{address}", form=fields, headers={"X-Console": "1"})
    assert late.status == 409
    assert re.search(r"Omar Haddad acknowledged this \d+ s ago", await late.text())


async def test_the_member_page_reads_aloud_and_explains(console: Console, context: BrowserContext) -> None:
    life = twelve_weeks(MARTA, now=now(), seed=1, spike_days_ago=0.05)
    await console.live(*life)
    # Not just the latest chain: nobody ever answered the alert of the first flare, so that one goes on as well.
    (spiked,) = [event for event in life if isinstance(event, PainSpiked) and event.time > now() - HOUR * 2]
    page = await context.new_page()
    path = f"/console/members/{MARTA.member_id}?chain={quote(spiked.chain)}"
    await sign_in(page, console, "Omar Haddad", path=path)
    await until_live(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Marta Muster")
    await page.locator("[data-chart]").focus()
    await page.keyboard.press("End")
    await expect(page.locator("[data-readout]")).to_contain_text("pain 7, during exercise · spike")
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("[data-readout]")).not_to_contain_text("spike")
    await expect(page.locator("[data-fragment$='/pain']")).to_contain_text("Usual pain: 2, as of")
    await page.get_by_text("As a table").click()
    await expect(page.locator(".twin tbody tr").first).to_contain_text("7")
    squat = page.locator(".exercise", has_text="Mini squat")
    await expect(squat).to_contain_text("eased 3 to 2")
    await expect(squat).to_contain_text("one step easier until it settles")
    boxes = page.locator(".picture .box")
    await expect(boxes).to_have_count(4)
    await boxes.filter(has_text="Alert raised").click()
    await expect(page.locator("#event")).to_contain_text("because of Pain spike: pain 7, usual 3")
    await expect(page.locator(".arrow.lit")).to_have_count(1)


async def test_nobody_sees_a_member_of_another_team(console: Console, context: BrowserContext) -> None:
    await new_member(console, MARTA)
    await spike(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Stella Okafor", path="/console/?q=")
    await expect(page.locator("#queue .row")).to_have_count(0)
    await expect(page.locator("#content")).not_to_contain_text("Marta")
    member = f"{console.url}/console/members/{MARTA.member_id}"
    for address in (member, f"{console.url}/console/fragments/members/{MARTA.member_id}/pain"):
        answer = await page.goto(address)
        assert answer
        assert answer.status == 404
        await expect(page.locator("body")).not_to_contain_text("Marta")
    nobody = await page.goto(f"{console.url}/console/members/00000000-0000-4000-8000-000000000000")
    assert nobody
    assert nobody.status == 404


async def test_on_call_sees_a_member_while_the_role_is_asked_and_no_longer(
    console: Console, context: BrowserContext
) -> None:
    await new_member(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Otto Lindqvist")
    await until_live(page)
    member = f"{console.url}/console/members/{MARTA.member_id}"
    assert (await page.request.get(member)).status == 404
    session = MARTA.session(now(), 8)
    await console.live(session, MARTA.flag(session))
    arrived = page.locator('[data-part="now"] .row', has_text="Marta Muster")
    await expect(arrived).to_contain_text("Emergency")
    await arrived.locator(".who").click()
    await expect(page.locator("#detail")).to_contain_text("hot swollen joint")
    await expect(page.locator('#detail [data-key="s"]')).to_have_count(0)  # an emergency cannot be put off
    assert (await page.request.get(member)).status == 200
    await page.locator('#detail [data-key="r"] summary').click()
    await page.get_by_label("Referred on").check()
    await page.locator('#detail [data-key="r"] button').click()
    await expect(page.locator('[data-part="resolved"] .row')).to_contain_text("Referred on, Otto Lindqvist")
    assert (await page.request.get(member)).status == 404


async def test_a_message_arrives_in_the_other_window(
    console: Console, context: BrowserContext, browser: Browser
) -> None:
    await new_member(console, MARTA)
    await spike(console, MARTA)
    path = f"/console/members/{MARTA.member_id}"
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz", path=path)
    omar = await second_window(browser, console, "Omar Haddad", path)
    await until_live(omar)
    await page.get_by_label("Message to Marta Muster").fill("How is the knee <b>now</b>?\nSecond line")
    await page.get_by_role("button", name="Send").click()
    for window in (page, omar):
        await expect(window.locator(".bubble.team")).to_contain_text("How is the knee <b>now</b>?")
    await expect(page.get_by_label("Message to Marta Muster")).to_have_value("")
    await page.get_by_role("button", name="Would a short call help?").click()
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".bubble.team")).to_have_count(2)
    async with console.database.acquire() as connection:
        chains = await connection.fetch(
            "select distinct cause_chain from alerts union select correlation_id from timeline "
            "where event_type = 'message.sent'"
        )
    assert len(chains) <= 1, "what a clinician writes about an alert belongs to its chain"


async def test_book_and_cancel_a_visit(console: Console, context: BrowserContext, browser: Browser) -> None:
    await new_member(console, MARTA)  # Ana and Omar keep New York's hours
    await new_member(console, JOSE)
    path = f"/console/members/{JOSE.member_id}"
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz", path=path)
    omar = await second_window(browser, console, "Omar Haddad", path)
    await until_live(omar)
    await page.get_by_text("Book a visit").click()
    await page.get_by_role("button", name="Show free times").click()
    slot = page.locator(".slot-day label").last
    await expect(slot).to_contain_text("theirs")
    await slot.locator("input").check()
    await page.locator("#slots button", has_text="Book").click()
    await expect(page.locator("#toasts")).to_contain_text("Visit booked")
    for window in (page, omar):
        await expect(window.locator(".visit")).to_contain_text("Omar Haddad")
        await expect(window.locator(".visit .tag")).to_have_text("booked")
    await page.get_by_role("button", name="Cancel visit").click()
    await expect(omar.locator(".visit .tag")).to_have_text("cancelled")


async def test_the_chain_grows_while_one_looks(console: Console, context: BrowserContext) -> None:
    """From the session to the booked visit on one picture, through the outbox, the broker and back."""
    await new_member(console, MARTA)
    await spike(console, MARTA)
    page = await context.new_page()
    await sign_in(page, console, "Ana Ruiz", path=f"/console/members/{MARTA.member_id}")
    await until_live(page)
    boxes = page.locator(".picture .box")
    await expect(boxes).to_have_count(4)
    await page.get_by_label("Message to Marta Muster").fill("Let us look at this together.")
    await page.get_by_role("button", name="Send").click()
    await expect(boxes.filter(has_text="Message")).to_have_count(1)
    await page.get_by_text("Book a visit").click()
    await page.get_by_role("button", name="Show free times").click()
    await page.locator(".slot-day input").last.check()
    await page.locator("#slots button", has_text="Book").click()
    await expect(boxes.filter(has_text="Visit booked")).to_have_count(1)
    await expect(page.locator(".chain-pick a").first).to_contain_text("Pain spike")
    said = [await box.get_attribute("aria-label") for box in await boxes.all()]
    assert [str(text).split(",")[0] for text in said] == [
        "Session",
        "Pain spike",
        "Alert raised",
        "Plan changed",
        "Message",
        "Visit booked",
    ]
    await expect(page.locator(".picture path.arrow")).to_have_count(5)
