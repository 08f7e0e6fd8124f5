"""A CSV (RFC 4180) read in blocks of bytes, in bounded memory, so that one bad record never costs its neighbours.

Python's csv module reads a file of text and stops at the first record it cannot read. Here records are cut first, by
line ends and quotes, and read one by one: an undecodable or badly quoted record is a fault with its line, and a quote
that is never closed costs its own line only.
"""

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

RECORD_SIZE_MAX: Final = 8_192
"""Bytes of one record. A roster row is about 60; the limit bounds memory."""
RECORD_LINES_MAX: Final = 10
"""Lines of one record with quoted line ends."""
UTF8_MARK: Final = b"\xef\xbb\xbf"
UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One record: its fields, or why it has none. `line` counts from 1, the header's."""

    line: int
    fields: list[str]
    fault: str = ""
    """wrong-encoding, bad-quotes, unclosed-quote, too-long; empty when the record was read."""
    lines: int = 1
    """How many lines of the file it takes."""


class RosterReader:
    """Cuts blocks of bytes into records. Feed blocks in order, then end."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines_done = 0
        self._overlong = False
        self._open: list[bytes] = []  # lines of a record whose quote is still open
        self._width = 0  # fields of the first record

    def feed(self, block: bytes) -> Iterator[FileRecord]:
        """Records that this block completes."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        yield from self._take(lines)
        if len(self._rest) > RECORD_SIZE_MAX:
            # Only that it was too long is remembered, not the bytes.
            self._rest, self._overlong = b"", True

    def end(self) -> Iterator[FileRecord]:
        """What is left after the last block: a last line without its end, an open quote."""
        if self._rest or self._overlong:
            lines, self._rest = [self._rest], b""
            yield from self._take(lines)
        yield from self._close_quotes()

    def _take(self, lines: list[bytes]) -> Iterator[FileRecord]:
        for line in lines:
            if self._overlong or len(line) > RECORD_SIZE_MAX:
                # No record reaches over such a line: where it began, a quote before it cannot have been meant.
                self._overlong = False
                yield from self._close_quotes()
                self._lines_done += 1
                yield FileRecord(self._lines_done, [], "too-long")
            elif self._open or b'"' in line:
                yield from self._take_quoted(line)
            else:
                self._lines_done += 1
                yield from self._read(self._lines_done, line)

    def _take_quoted(self, line: bytes) -> Iterator[FileRecord]:
        waiting = deque([line])
        while waiting:
            self._open.append(waiting.popleft())
            if sum(part.count(b'"') for part in self._open) % 2 == 0:
                found = list(self._read(self._lines_done + 1, b"\n".join(self._open)))
                if len(self._open) == 1 or self._is_whole(found):
                    self._lines_done += len(self._open)
                    yield from (replace(each, lines=len(self._open)) for each in found)
                    self._open.clear()
                    continue
            elif len(self._open) < RECORD_LINES_MAX and sum(map(len, self._open)) <= RECORD_SIZE_MAX:
                continue
            # The quote was a slip: only its own line is lost, those after it are read again.
            _, *others = self._open
            self._open.clear()
            self._lines_done += 1
            yield FileRecord(self._lines_done, [], "unclosed-quote")
            waiting.extendleft(reversed(others))

    def _is_whole(self, found: list[FileRecord]) -> bool:
        """Whether lines that quotes tie together make a record like the others: two slips must not swallow what lies
        between them."""
        return all(not each.fault and len(each.fields) == (self._width or len(each.fields)) for each in found)

    def _read(self, line: int, raw: bytes) -> Iterator[FileRecord]:
        for record in _read(line, raw):
            self._width = self._width or len(record.fields)
            yield record

    def _close_quotes(self) -> Iterator[FileRecord]:
        """Give up quotes that are still open, each for its own line only."""
        while self._open:
            _, *others = self._open
            self._open.clear()
            self._lines_done += 1
            yield FileRecord(self._lines_done, [], "unclosed-quote")
            yield from self._take(others)


def _read(line: int, raw: bytes) -> Iterator[FileRecord]:
    """The record in these bytes; nothing for an empty line."""
    raw = raw.removesuffix(b"\r")
    if line == 1:
        raw = raw.removeprefix(UTF8_MARK)
        if raw.startswith(UTF16_MARKS):
            yield FileRecord(line, [], "wrong-encoding")
            return
    if not raw.strip():
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        yield FileRecord(line, [], "wrong-encoding")
        return
    if b'"' not in raw:
        yield FileRecord(line, text.split(","))
        return
    try:
        yield FileRecord(line, next(csv.reader([text], strict=True)))
    except csv.Error:
        yield FileRecord(line, [], "bad-quotes")
