"""The messages of the sink: one SQLite file, so that what was received outlives a killed process."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

TRIM_EVERY = 100
"""Deliveries between two deletions of the oldest messages."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,
    sent_at TEXT,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    subject TEXT NOT NULL,
    message_id TEXT NOT NULL,
    body TEXT NOT NULL,
    raw BLOB NOT NULL
)
"""
_COLUMNS = "id, received_at, sent_at, sender, recipients, subject, message_id"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One line of the list. Times are ISO 8601; `sent_at` is the message's own Date, where it has a valid one."""

    id: int
    received_at: str
    sent_at: str | None
    sender: str
    recipients: str
    subject: str
    message_id: str


@dataclass(frozen=True, kw_only=True)
class Opened:
    """One message as a reader sees it."""

    summary: Summary
    headers: Sequence[tuple[str, str]]
    text: str
    html: str | None
    unsubscribe_url: str | None
    """Where a mail client's own unsubscribe button would post (RFC 8058), when the message offers it."""
    raw: bytes


class Mailbox:
    """Messages in arrival order. Made for one event loop: each call is one short SQLite statement."""

    def __init__(self, path: Path, *, keep: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        self._since_trim = 0
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # A write-ahead log survives a killed process; waiting for the disk at every message would not keep up.
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        self._file.execute(_SCHEMA)
        self.trim()

    def close(self) -> None:
        self._file.close()

    def deliver(self, *, sender: str, recipients: Sequence[str], raw: bytes, received_at: datetime) -> int:
        """Keep one message; returns its number. Mail that cannot be parsed is kept all the same, as it is."""
        parsed = parse(raw)
        row = (
            received_at.isoformat(),
            _date(parsed),
            sender,
            ", ".join(recipients),
            _header(parsed, "Subject"),
            _header(parsed, "Message-ID"),
            _text(parsed),
            raw,
        )
        inserted = self._file.execute(
            "INSERT INTO messages (received_at, sent_at, sender, recipients, subject, message_id, body, raw)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self._since_trim += 1
        if self._since_trim >= TRIM_EVERY:
            self.trim()
        return int(inserted.lastrowid or 0)

    def trim(self) -> None:
        """Delete all but the latest `keep` messages."""
        self._since_trim = 0
        self._file.execute("DELETE FROM messages WHERE id <= (SELECT max(id) FROM messages) - ?", (self._keep,))

    def count(self, *, search: str = "", to: str = "") -> int:
        where, values = _where(search=search, to=to)
        # The clauses are constants of this file; what was searched is bound.
        (found,) = self._file.execute(f"SELECT count(*) FROM messages {where}", values).fetchone()  # noqa: S608
        return int(found)

    def latest(self, *, search: str = "", to: str = "", limit: int = 50, offset: int = 0) -> list[Summary]:
        """The newest messages first. `search` looks in addresses, subject and text; `to` is a part of a recipient."""
        where, values = _where(search=search, to=to)
        statement = f"SELECT {_COLUMNS} FROM messages {where} ORDER BY id DESC LIMIT ? OFFSET ?"  # noqa: S608
        return [_summary(row) for row in self._file.execute(statement, [*values, limit, offset])]

    def open(self, number: int) -> Opened | None:
        statement = f"SELECT {_COLUMNS}, body, raw FROM messages WHERE id = ?"  # noqa: S608
        row = self._file.execute(statement, (number,)).fetchone()
        if row is None:
            return None
        *summary, body, raw = row
        parsed = parse(raw)
        return Opened(
            summary=_summary(summary),
            headers=_headers(parsed),
            text=body,
            html=_part(parsed, "html"),
            unsubscribe_url=_unsubscribe_url(parsed),
            raw=raw,
        )


def parse(raw: bytes) -> Message:
    """Thousands come in minutes while a population is seeded: the older parser takes a fifth of the time."""
    return message_from_bytes(raw, policy=policy.compat32)


def _where(*, search: str, to: str) -> tuple[str, list[str]]:
    clauses, values = [], []
    if search:
        clauses.append("instr(lower(sender || ' ' || recipients || ' ' || subject || ' ' || body), lower(?)) > 0")
        values.append(search)
    if to:
        clauses.append("instr(lower(recipients), lower(?)) > 0")
        values.append(to)
    return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), values


def _summary(row: Sequence[Any]) -> Summary:
    number, received_at, sent_at, sender, recipients, subject, message_id = row
    return Summary(
        id=number,
        received_at=received_at,
        sent_at=sent_at,
        sender=sender,
        recipients=recipients,
        subject=subject,
        message_id=message_id,
    )


def _header(message: Message, name: str) -> str:
    value = str(message.get(name, ""))
    if "=?" in value:
        try:
            value = str(make_header(decode_header(value)))
        except (LookupError, ValueError, MessageError):  # an unknown charset, a broken encoding: shown as it came
            pass
    return " ".join(value.split())


def _headers(message: Message) -> list[tuple[str, str]]:
    return [(name, _header(message, name)) for name in dict.fromkeys(message.keys())]


def _date(message: Message) -> str | None:
    try:
        return parsedate_to_datetime(_header(message, "Date")).isoformat()
    except (ValueError, TypeError, OverflowError):
        return None


def _part(message: Message, kind: str) -> str | None:
    """The first part of text/`kind` that is no attachment, decoded as far as it can be."""
    for part in message.walk():
        if part.get_content_type() != f"text/{kind}" or part.get_content_disposition() == "attachment":
            continue
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes):
            continue
        try:
            return content.decode(part.get_content_charset("utf-8"), errors="replace")
        except LookupError:
            return content.decode("utf-8", errors="replace")
    return None


def _text(message: Message) -> str:
    return _part(message, "plain") or ""


def _unsubscribe_url(message: Message) -> str | None:
    if _header(message, "List-Unsubscribe-Post").strip() != "List-Unsubscribe=One-Click":
        return None
    links = (link.strip().strip("<>") for link in _header(message, "List-Unsubscribe").split(","))
    return next((link for link in links if link.startswith(("https://", "http://"))), None)
