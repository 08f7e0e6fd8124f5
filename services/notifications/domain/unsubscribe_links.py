"""Signed links that let the reader of an email leave its list without signing in (RFC 8058)."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import get_args
from uuid import UUID

from shared.events.vocabulary import NotificationTopic


@dataclass(frozen=True, kw_only=True)
class UnsubscribeLink:
    """Who leaves what. The list of an email is its topic."""

    member_id: UUID
    topic: NotificationTopic


def sign_link(*, link: UnsubscribeLink, secret: str) -> str:
    """An opaque token for a URL. It does not expire: an opt-out must work as long as the email is kept."""
    content = f"{link.member_id} {link.topic}".encode()
    return _text(content) + "." + _text(_signature(content, secret))


def read_link(*, token: str, secret: str) -> UnsubscribeLink | None:
    """What a token says; None unless we signed it."""
    content_text, _, signature_text = token.partition(".")
    content, signature = _bytes(content_text), _bytes(signature_text)
    if content is None or signature is None or not hmac.compare_digest(signature, _signature(content, secret)):
        return None
    member_id, _, topic = content.decode().partition(" ")
    (known,) = [one for one in get_args(NotificationTopic) if one == topic] or [None]
    return UnsubscribeLink(member_id=UUID(member_id), topic=known) if known else None


def _signature(content: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"unsubscribe " + content, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError):
        return None
