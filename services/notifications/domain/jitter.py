"""Spread a herd: one local time must not be one moment."""

import hashlib
from datetime import timedelta
from uuid import UUID


def jitter_of(*, member_id: UUID, up_to: timedelta) -> timedelta:
    """A whole number of seconds in [0, up_to), always the same for a member and even over members. Derived, not drawn:
    a reminder decided again is due at the same moment."""
    digest = hashlib.blake2b(member_id.bytes, digest_size=8, person=b"reminder").digest()
    seconds = int(up_to.total_seconds())
    return timedelta(seconds=int.from_bytes(digest) % seconds if seconds else 0)
