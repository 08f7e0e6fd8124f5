"""The signature of an inbound text message, as Twilio-compatible providers make it (X-Twilio-Signature)."""

import base64
import hashlib
import hmac
from collections.abc import Mapping


def text_signature(*, url: str, fields: Mapping[str, str], secret: str) -> str:
    """Base64 of HMAC-SHA1 over the full URL followed by each field's name and value, names in order."""
    content = url + "".join(f"{name}{fields[name]}" for name in sorted(fields))
    return base64.b64encode(hmac.digest(secret.encode(), content.encode(), hashlib.sha1)).decode()


def is_signed(*, url: str, fields: Mapping[str, str], secret: str, signature: str) -> bool:
    return hmac.compare_digest(text_signature(url=url, fields=fields, secret=secret).encode(), signature.encode())
