"""Links that let the reader of an email leave its list without signing in (RFC 8058).

What a link says is encrypted and not only signed: mail is forwarded, scanned and logged on its way, and a member's id
is nobody's business there. AES-SIV (RFC 5297) needs no nonce, so that a message that is rendered again is the same.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import get_args
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from shared.events.vocabulary import NotificationTopic

UUID_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class UnsubscribeLink:
    """Who leaves what. The list of an email is its topic."""

    member_id: UUID
    topic: NotificationTopic


def seal_link(*, link: UnsubscribeLink, secret: str) -> str:
    """An opaque token for a URL. It does not expire: an opt-out must work as long as the email is kept."""
    sealed = _cipher(secret).encrypt(link.member_id.bytes + link.topic.encode(), None)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def read_link(*, token: str, secret: str) -> UnsubscribeLink | None:
    """What a token says; None unless we sealed it. How long that takes tells nothing of the right one."""
    try:
        sealed = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        content = _cipher(secret).decrypt(sealed, None)
    except (InvalidTag, ValueError):  # a UnicodeEncodeError is a ValueError
        return None
    topic = content[UUID_BYTES:].decode()
    (known,) = [one for one in get_args(NotificationTopic) if one == topic] or [None]
    return UnsubscribeLink(member_id=UUID(bytes=content[:UUID_BYTES]), topic=known) if known else None


def _cipher(secret: str) -> AESSIV:
    # A key of its own from a secret of any length: 64 bytes are AES-256 in this mode.
    return AESSIV(hmac.digest(secret.encode(), b"unsubscribe links", hashlib.sha512))
