"""Which partition a member's events go to: Kafka's default for keys, computed without a client."""

from typing import NamedTuple
from uuid import UUID

from aiokafka.partitioner import murmur2
from asyncpg.pgproto import pgproto

MEMO_MAX = 200_000
"""Members whose key is remembered: the library's murmur2 is pure Python and costs more than the rest of a send."""


class Key(NamedTuple):
    """A member as the key of a record."""

    raw: bytes
    hash: int
    """Of 2^31 partitions a member's would have this number."""
    member_id: UUID
    """As the database driver makes it, which writes such a one in half the time. Equal to the member's in all but that
    orjson does not know it."""


_keys: dict[int, Key] = {}


def key_of(member_id: UUID) -> Key:
    """The member's key and its hash by Kafka's default partitioner (murmur2), remembered in the whole process."""
    key = _keys.get(member_id.int)
    if key is None:
        if len(_keys) >= MEMO_MAX:
            _keys.clear()
        raw = str(member_id).encode()
        key = _keys[member_id.int] = Key(raw, murmur2(raw) & 0x7FFFFFFF, pgproto.UUID(member_id.bytes))
    return key


def partition_of(member_id: UUID, partitions: int) -> int:
    """Which of so many partitions the member's events go to."""
    return key_of(member_id).hash % partitions
