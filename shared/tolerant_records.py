"""Header names that are not UTF-8 must not stop a partition.

Kafka's protocol calls a header's name a string, and no broker checks it. aiokafka 0.14 decodes it while it unpacks a
fetched batch and raises, at every poll, for ever: one record of a careless client would hold up every member behind it
and every partition of the same consumer. Here such a record is read again by the library's own Python reader, with the
bytes that are no text replaced, so that it arrives like any other and is judged by its content.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

AT_ONCE = 500
"""Records that are read ahead: a batch may hold very many small ones."""


class TolerantRecords(_MemoryRecordsPy):  # type: ignore[misc]  # the library has no types
    """The batches of one fetch answer, in the library's own order and with its own checks."""

    def next_batch(self) -> Any:
        raw = self._next_slice
        batch = super().next_batch()
        return _TolerantBatch(batch, raw) if isinstance(batch, DefaultRecordBatch) else batch


class _TolerantBatch:
    """A batch whose records are read fast, and slowly from where one of them cannot be."""

    __slots__ = ("_batch", "_raw")

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        """The marker of a transaction, which the library takes from its batch without iterating."""
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        records, read = (record for record in self._batch), 0  # the batch itself may be asked for its records once
        try:
            while some := list(islice(records, AT_ONCE)):
                yield from some
                read += len(some)
            return
        except UnicodeDecodeError:
            pass
        yield from islice(_lenient(self._raw), read, None)


def _lenient(raw: memoryview) -> Any:
    batch = _DefaultRecordBatchPy(bytes(raw))
    batch._maybe_uncompress()
    batch._buffer = _Buffer(batch._buffer)
    return batch


class _Buffer(bytearray):
    """Bytes whose slices decode to text whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Buffer(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


def tolerate_header_names() -> None:
    """From now on every consumer of this process reads such records. Called once, before the first consumer starts."""
    fetcher.MemoryRecords = TolerantRecords
