"""Rows of a batch as one JSON parameter, for jsonb_populate_recordset."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID


def json_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as JSON values: asyncpg's own UUID class is one that orjson does not know."""
    return {name: str(value) if isinstance(value, UUID) else value for name, value in fields.items()}
