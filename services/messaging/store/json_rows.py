"""Rows of a batch as one JSON parameter, for jsonb_populate_recordset."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID


def inserting(table: str, columns: str) -> str:
    """Puts rows that came as such a parameter into a table. A column that is not named gets its default: a row of JSON
    that says nothing of it would make it null."""
    rows = f"jsonb_populate_recordset(null::{table}, $1)"
    return f"insert into {table} ({columns}) select {columns} from {rows}"  # noqa: S608 - only our own parts


def json_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as JSON values: asyncpg's own UUID class is one that orjson does not know."""
    return {name: str(value) if isinstance(value, UUID) else value for name, value in fields.items()}
