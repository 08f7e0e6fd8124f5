"""Columns by name, never `*`: the migrations of the next release add theirs while processes of this one still run."""

from dataclasses import fields


def columns_of(made: type) -> str:
    """The columns of a table whose row is this dataclass, field by field."""
    return ", ".join(field.name for field in fields(made))
