"""Simulated staff who can sign in: `people.json` in the issuer's data directory, written by whoever seeds a stack."""

import json
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, TypeAdapter

PEOPLE_FILE = "people.json"


class Person(BaseModel):
    """One simulated clinician or operator."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    subject: UUID
    name: str
    roles: tuple[str, ...]
    language: str = "en"
    title: str = ""
    """What to show beside the name, such as `Coach, 31 members`."""


_PEOPLE = TypeAdapter(tuple[Person, ...])


def load_people(data: Path) -> tuple[Person, ...]:
    """Everyone who can sign in; empty before a stack is seeded. ValueError when the file does not hold people."""
    try:
        return _PEOPLE.validate_json((data / PEOPLE_FILE).read_bytes())
    except FileNotFoundError:
        return ()


def save_people(data: Path, people: Sequence[Person]) -> None:
    """Replace the file at once, so that nobody reads half of it."""
    data.mkdir(parents=True, exist_ok=True)
    draft = data / f"{PEOPLE_FILE}.draft"
    draft.write_text(json.dumps([person.model_dump(mode="json") for person in people], indent=1))
    draft.replace(data / PEOPLE_FILE)
