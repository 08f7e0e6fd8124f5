"""Which partition a member's events go to: Kafka's default for keys, computed without a client."""

from uuid import UUID

from aiokafka.partitioner import murmur2

MEMO_MAX = 500_000
"""Members whose hash is remembered: the library's murmur2 is pure Python and costs more than the rest of a send."""


class Partitioner:
    """Kafka's default partitioner for keys (murmur2), remembered per member."""

    def __init__(self) -> None:
        self._hashes: dict[UUID, int] = {}

    def partition(self, member_id: UUID, partitions: int) -> int:
        value = self._hashes.get(member_id)
        if value is None:
            if len(self._hashes) >= MEMO_MAX:
                self._hashes.clear()
            value = self._hashes[member_id] = murmur2(str(member_id).encode()) & 0x7FFFFFFF
        return value % partitions
