"""Values go to the outbox as lines of one text: each stays with its member, whatever it holds."""

from uuid import uuid4

import asyncpg
import pytest

from shared.outbox import OutboxRow, inserting_rows
from shared.partitioning import key_of
from shared.writing import write
from tests.shared.delivery.books import Books
from tests.shared.delivery.probe import ACTIVITY


def row(value: bytes) -> OutboxRow:
    member = uuid4()
    return OutboxRow(ACTIVITY, member, value, key_of(member).hash)


@pytest.mark.parametrize(
    "text", ["", " ", "\r", "\\n", "\\u0000", "\u0085", "\u2028\u2029", "é 膝 🦵", "\x1c\x1d\x0b\x0c"]
)
async def test_what_no_line_ends_with_stays_in_its_value(books: Books, text: str) -> None:
    rows = [row(b"1"), row(f'"{text}"'.encode()), row(b"{}")]
    await write(books.pool, [inserting_rows(rows)])
    found = await books.pool.fetch("select member_id, value from delivery.outbox order by outbox_id")
    assert [tuple(one) for one in found] == [(one.member_id, one.value) for one in rows]


@pytest.mark.parametrize("value", [b'{"a":\n1}', b"\n", b"\xff", b"\x00"])
async def test_what_is_no_line_of_text_is_refused_and_nobody_gets_what_is_anothers(books: Books, value: bytes) -> None:
    """Nothing makes such a value; one would move those behind it to other members."""
    for rows in ([row(value)], [row(value), row(b"1")], [row(b"1"), row(value)]):
        with pytest.raises(asyncpg.PostgresError):
            await write(books.pool, [inserting_rows(rows)])
    assert await books.pool.fetchval("select count(*) from delivery.outbox") == 0
