"""Texts: both languages, no health data, nothing that a name or an address can break."""

import base64
import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.notification import Notification
from services.notifications.domain.unsubscribe_links import UnsubscribeLink, read_link
from services.notifications.handlers.claim_sends import Attempt
from services.notifications.sender import rendering
from services.notifications.sender.rendering import (
    TEXT_LENGTH_MAX,
    Letterhead,
    UnusableAddress,
    moment,
    render_email,
    render_text,
)
from services.notifications.store.library import load_policy
from shared.events.vocabulary import Language
from shared.outcomes import Cause

NOW = datetime(2026, 3, 2, 17, 0, tzinfo=UTC)
MEMBER = UUID("11111111-2222-4333-8444-555555555555")
LETTERHEAD = Letterhead(
    mail_from="Clínica Careloop <care@careloop.example>",
    mail_domain="careloop.example",
    public_url="https://n.careloop.example",
    app_url="https://app.careloop.example",
    console_url="https://console.careloop.example",
    clinic_name="Careloop",
    clinic_postal_address="1 Main Street, Springfield",
    unsubscribe_secret="secret",
)
PARAMS: dict[str, dict[str, Any]] = {
    "session-reminder": {"planned_on": "2026-03-02"},
    "visit-reminder": {"visit_id": "v", "starts_at": "2026-03-03T20:00:00+00:00"},
    "nudge": {"rung_days": 3},
    "milestone": {},
    "message": {},
}
LANGUAGES: tuple[Language, ...] = get_args(Language)


def attempt(template: str, language: Language, **changes: Any) -> Attempt:
    is_page = template == "page"
    page = {"alert_id": "a1", "role": "oncall", "respond_by": "2026-03-02T17:15:00+00:00"}
    one = Notification(
        notification_id=UUID(int=7),
        member_id=MEMBER,
        topic="safety-page" if is_page else template,  # type: ignore[arg-type]  # templates are named after topics
        template=template,
        about="test",
        params=changes.pop("params", page if is_page else PARAMS[template]),
        page_role="oncall" if is_page else None,
        not_before=NOW,
        stale_at=NOW + timedelta(hours=6),
        cause=Cause(source="s", id="1", chain="1"),
    )
    fields: dict[str, Any] = {
        "notification": one, "number": 1, "channel": "email", "address": "ana@example.org", "language": language,
        "zone": ZoneInfo("America/New_York"), "given_name": None if is_page else "Ana",
    }  # fmt: skip
    return Attempt(**{**fields, **changes})


def email(one: Attempt) -> EmailMessage:
    """What the reader's mail program makes of it."""
    return message_from_bytes(render_email(one, letterhead=LETTERHEAD, now=NOW), policy=policy.default)


def parts(message: EmailMessage) -> tuple[str, str]:
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    return plain.get_content(), html.get_content()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", sorted(PARAMS))
def test_every_email_has_both_forms_and_the_way_out(template: str, language: Language) -> None:
    message = email(attempt(template, language))
    plain, html = parts(message)
    token = re.search(r"token=(\S+)", plain)
    assert token
    link = read_link(token=token[1], secret="secret")
    assert link == UnsubscribeLink(member_id=MEMBER, topic=template)  # type: ignore[arg-type]
    assert message["List-Unsubscribe"] == f"<https://n.careloop.example/v1/unsubscribe?token={token[1]}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Message-ID"] == "<00000000-0000-0000-0000-000000000007@careloop.example>"
    assert message["Date"] == "Mon, 02 Mar 2026 17:00:00 +0000"
    opened = base64.urlsafe_b64decode(token[1] + "=" * (-len(token[1]) % 4))
    assert MEMBER.bytes not in opened
    assert str(MEMBER).encode() not in opened
    for text in (plain, html):
        assert "Ana" in text
        assert "https://app.careloop.example" in text
        assert "1 Main Street" in text
        assert "911" in text
        assert str(MEMBER) not in text
    assert f'<html lang="{language}">' in html
    raw = render_email(attempt(template, language), letterhead=LETTERHEAD, now=NOW)
    assert all(byte < 128 for byte in raw), "seven-bit lines only"
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert not message.defects


def test_the_languages_say_different_things() -> None:
    for template in PARAMS:
        english, spanish = (email(attempt(template, one)) for one in LANGUAGES)
        assert english["Subject"] != spanish["Subject"]
        assert (english["Content-Language"], spanish["Content-Language"]) == ("en", "es")


@pytest.mark.parametrize("rung", [3, 7, 14, 21])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_rung_of_the_nudge_has_a_subject(rung: int, language: Language) -> None:
    message = email(attempt("nudge", language, params={"rung_days": rung}))
    assert 10 < len(message["Subject"]) < 60
    assert "Subject:" not in parts(message)[1]


def test_a_page_names_no_member() -> None:
    message = email(attempt("page", "en"))
    plain, html = parts(message)
    for text in (plain, html, str(message.items())):
        assert str(MEMBER) not in text
        assert "Ana" not in text.replace("oncall", "")
    assert "https://console.careloop.example/console/?alert=a1" in plain
    assert message["List-Unsubscribe"] is None


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", ["session-reminder", "visit-reminder", "nudge", "message"])
def test_a_text_message_is_short_and_in_the_short_alphabet(template: str, language: Language) -> None:
    text = render_text(attempt(template, language, channel="sms"), letterhead=LETTERHEAD)
    assert len(text) <= TEXT_LENGTH_MAX
    assert text.isascii()
    assert "Ana" not in text
    assert re.search(r"STOP|ALTO", text)


def test_no_template_knows_a_word_of_health() -> None:
    """What a lock screen or a shared mailbox shows must not say what is wrong with somebody."""
    words = re.compile(
        r"pain|knee|dolor|rodilla|surg|cirug|score|flare|red flag|diagnos|injur|lesi[oó]n", re.IGNORECASE
    )
    templates = list((Path(rendering.__file__).parent / "templates").rglob("*.j2"))
    assert len(templates) > 20
    for template in templates:
        assert not words.search(template.read_text()), template.name


def test_every_topic_that_may_use_a_channel_has_its_templates() -> None:
    folder = Path(rendering.__file__).parent / "templates"
    for topic, topic_policy in load_policy().topics.items():
        for channel in topic_policy.channels:
            if topic in ("account", "safety-page"):
                continue
            for language in LANGUAGES:
                assert (folder / language / f"{topic}.{channel}.txt.j2").exists(), (topic, channel, language)


@pytest.mark.parametrize(
    ("at", "english", "spanish"),
    [
        ("2026-03-08T06:30:00+00:00", "Sunday, March 8 at 1:30 AM EST", "domingo 8 de marzo a las 01:30 (EST)"),
        ("2026-03-08T07:30:00+00:00", "Sunday, March 8 at 3:30 AM EDT", "domingo 8 de marzo a las 03:30 (EDT)"),
        ("2026-11-01T05:30:00+00:00", "Sunday, November 1 at 1:30 AM EDT", "domingo 1 de noviembre a las 01:30 (EDT)"),
        ("2026-11-01T06:30:00+00:00", "Sunday, November 1 at 1:30 AM EST", "domingo 1 de noviembre a las 01:30 (EST)"),
        ("2026-07-04T16:00:00+00:00", "Saturday, July 4 at 12:00 PM EDT", "sábado 4 de julio a las 12:00 (EDT)"),
    ],
)
def test_a_moment_in_the_members_zone_and_words(at: str, english: str, spanish: str) -> None:
    zone = ZoneInfo("America/New_York")
    assert moment(at=datetime.fromisoformat(at), zone=zone, language="en") == english
    assert moment(at=datetime.fromisoformat(at), zone=zone, language="es") == spanish


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80))
def test_any_name_can_be_greeted(name: str) -> None:
    message = email(attempt("message", "en", given_name=name))
    assert [header for header in message.keys() if header.lower() in ("bcc", "cc")] == []  # noqa: SIM118
    assert "<script" not in parts(message)[1].replace("&lt;script", "")


def test_markup_in_a_name_stays_text() -> None:
    message = email(attempt("message", "en", given_name="<b>Ana</b>"))
    assert "&lt;b&gt;Ana&lt;/b&gt;" in parts(message)[1]


@pytest.mark.parametrize(
    "address",
    [
        "ana@example.org\r\nBcc: all@example.org", "a@b@c", "a,b@example.org", "Ana <ana@example.org>", "ana",
        "ñandú@example.org", "ana@exämple.org", "ana@", "@example.org", "(x)ana@example.org",
    ],
)  # fmt: skip
def test_an_address_that_could_mean_something_else_is_refused(address: str) -> None:
    with pytest.raises(UnusableAddress):
        email(attempt("message", "en", address=address))
