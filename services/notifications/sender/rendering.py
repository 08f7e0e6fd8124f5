"""Texts from templates: plain and HTML email, text messages, in English and Spanish. No health data goes in."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.charset import QP, Charset
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime, formataddr, getaddresses
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.notifications.domain.notification import Notification
from services.notifications.domain.unsubscribe_links import UnsubscribeLink, seal_link
from services.notifications.handlers.claim_sends import Attempt
from services.notifications.settings import NotificationsSettings
from shared.events.vocabulary import Language

TEXT_LENGTH_MAX = 160
"""Characters of a text message; the healthcare exemption allows no more (47 CFR 64.1200(a)(9)(iv), U)."""
LINES = compat32.clone(linesep="\r\n", max_line_length=998)
"""Of the standard library's two ways to write a message the older one: it takes a quarter of the time."""
_QUOTED = Charset("utf-8")
_QUOTED.body_encoding = QP

_TEMPLATES = Path(__file__).parent / "templates"
_plain = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, autoescape=False, trim_blocks=True)
_html = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True)

_DAYS: Mapping[Language, tuple[str, ...]] = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
}
_MONTHS: Mapping[Language, tuple[str, ...]] = {
    "en": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December"),
    "es": ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre",
           "noviembre", "diciembre"),
}  # fmt: skip


class UnusableHeader(Exception):
    """A header would have more than one line: a template or a setting is wrong."""


class UnusableAddress(Exception):
    """The address cannot be written in a message; it is not in the text of this error."""


@dataclass(frozen=True, kw_only=True)
class Letterhead:
    """What every email of this installation says about where it comes from."""

    mail_from: str
    mail_domain: str
    public_url: str
    app_url: str
    console_url: str
    clinic_name: str
    clinic_postal_address: str
    unsubscribe_secret: str

    @classmethod
    def of(cls, settings: NotificationsSettings, *, unsubscribe_secret: str) -> "Letterhead":
        return cls(
            mail_from=settings.mail_from,
            mail_domain=settings.mail_domain,
            public_url=settings.public_url.rstrip("/"),
            app_url=settings.app_url.rstrip("/"),
            console_url=settings.console_url.rstrip("/"),
            clinic_name=settings.clinic_name,
            clinic_postal_address=settings.clinic_postal_address,
            unsubscribe_secret=unsubscribe_secret,
        )

    @property
    def envelope_sender(self) -> str:
        return getaddresses([self.mail_from])[0][1]


def render_email(attempt: Attempt, *, letterhead: Letterhead, now: datetime) -> bytes:
    """The message of an attempt, the same for the same notification but for its date. Raises UnusableAddress."""
    one, language = attempt.notification, attempt.language
    unsubscribe_url = None
    if one.page_role is None:
        link = UnsubscribeLink(member_id=one.member_id, topic=one.topic)
        token = seal_link(link=link, secret=letterhead.unsubscribe_secret)
        unsubscribe_url = f"{letterhead.public_url}/v1/unsubscribe?token={token}"
    values = {**_values(attempt, letterhead), "given_name": attempt.given_name, "unsubscribe_url": unsubscribe_url}
    content = _plain.get_template(f"{language}/{one.template}.email.txt.j2").render(values)
    subject, _, body = content.partition("\n")
    paragraphs = [part.strip() for part in body.split("\n\n") if part.strip()]
    frame = {**values, "paragraphs": paragraphs, "subject": subject, "language": language}
    boundary = f"careloop-{one.notification_id.hex}"
    message = MIMEMultipart("alternative", boundary=boundary)
    headers = {
        "From": _sender(letterhead.mail_from),
        "To": _address(attempt.address),
        "Subject": subject.removeprefix("Subject:").strip(),
        "Date": format_datetime(now),
        "Message-ID": f"<{one.notification_id}@{letterhead.mail_domain}>",
        "Content-Language": language,
        "Auto-Submitted": "auto-generated",
    }
    if unsubscribe_url is not None:
        headers["List-Id"] = f"<{one.topic}.{letterhead.mail_domain}>"
        headers["List-Unsubscribe"] = f"<{unsubscribe_url}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    for name, value in headers.items():
        if any(sign in value for sign in "\r\n"):
            raise UnusableHeader(name)
        message[name] = value if value.isascii() else Header(value, "utf-8", header_name=name).encode()
    plain = _plain.get_template(f"{language}/frame.txt.j2").render(frame)
    html = _html.get_template(f"{language}/frame.html.j2").render(frame)
    message.attach(_part(plain, "plain"))
    message.attach(_part(html, "html"))
    return message.as_bytes(policy=LINES)


def render_text(attempt: Attempt, *, letterhead: Letterhead) -> str:
    """The text message of an attempt, in letters that fit the short alphabet of mobile networks (GSM 03.38)."""
    template = f"{attempt.language}/{attempt.notification.template}.sms.txt.j2"
    text = _plain.get_template(template).render(_values(attempt, letterhead)).strip()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign))


def _values(attempt: Attempt, letterhead: Letterhead) -> dict[str, Any]:
    one: Notification = attempt.notification
    values: dict[str, Any] = {
        **one.params,
        "app_url": letterhead.app_url,
        "console_url": letterhead.console_url,
        "clinic_name": letterhead.clinic_name,
        "clinic_postal_address": letterhead.clinic_postal_address,
    }
    for name in ("starts_at", "respond_by"):
        if name in one.params:
            at = datetime.fromisoformat(one.params[name])
            values[name] = moment(at=at, zone=attempt.zone, language=attempt.language)
            values[f"{name}_time"] = clock_time(at=at, zone=attempt.zone, language=attempt.language)
    return values


def moment(*, at: datetime, zone: ZoneInfo, language: Language) -> str:
    """`Monday, March 2 at 3:00 PM EST`; `lunes 2 de marzo a las 15:00 (EST)`."""
    local = at.astimezone(zone)
    day, month = _DAYS[language][local.weekday()], _MONTHS[language][local.month - 1]
    time = clock_time(at=at, zone=zone, language=language)
    if language == "es":
        return f"{day} {local.day} de {month} a las {time}"
    return f"{day}, {month} {local.day} at {time}"


def clock_time(*, at: datetime, zone: ZoneInfo, language: Language) -> str:
    """`3:00 PM EST`; `15:00 (EST)`."""
    local = at.astimezone(zone)
    if language == "es":
        return f"{local:%H:%M} ({local.tzname()})"
    return f"{local.hour % 12 or 12}:{local:%M} {'AM' if local.hour < 12 else 'PM'} {local.tzname()}"


def _part(text: str, kind: str) -> MIMENonMultipart:
    """Seven-bit lines: not every server on the way takes more."""
    if text.isascii():
        return MIMEText(text, kind, "us-ascii")
    part = MIMENonMultipart("text", kind)
    part.set_payload(text, _QUOTED)
    return part


def _sender(text: str) -> str:
    """`Name <address>` with the name encoded where it has to be."""
    return formataddr(getaddresses([text])[0])


def _address(text: str) -> str:
    """Refuses what could add a header or a second recipient, and what needs SMTPUTF8."""
    try:
        address = Address(addr_spec=text)
    except (MessageError, ValueError, IndexError) as error:
        raise UnusableAddress from error
    if not text.isascii() or address.addr_spec != text:
        raise UnusableAddress
    return text
