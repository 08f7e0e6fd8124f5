"""What a row of a roster must say, and what is wrong with one that does not.

Only what eligibility needs is taken (minimum necessary, 45 CFR 164.502(b)): other columns are named and ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

COLUMNS_REQUIRED: Final = ("person_id", "date_of_birth", "state", "effective_from")
COLUMNS_OPTIONAL: Final = ("effective_to",)
PERSON_ID_SIZE_MAX: Final = 64
_USPS: Final = (
    "AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE "
    "NV NH NJ NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY PR GU VI AS MP"
)
STATES: Final = frozenset(_USPS.split())
"""USPS codes of the states, the District of Columbia and the territories."""
OPEN_END: Final = date(9999, 12, 31)
"""What many payroll systems write for "no end"."""
EARLIEST: Final = date(1900, 1, 1)
LATEST: Final = date(2100, 12, 31)


@dataclass(frozen=True, slots=True)
class RosterRow:
    line: int
    person_id: str
    date_of_birth: date
    state: str
    effective_from: date
    effective_to: date | None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row was not taken. Names the field, never its value."""

    line: int
    field: str
    reason: str
    person_id: str | None = None
    """Whose row it was, if it said so: that person must not be taken for absent."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each column is, from the header."""

    place: Mapping[str, int]
    count: int
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeaderRefusal:
    field: str
    reason: str


class _Wrong(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field)
        self.field, self.reason = field, reason


def read_header(*, fields: Sequence[str]) -> Columns | HeaderRefusal:
    """Where the columns are. Names are taken without case or surrounding space; order does not matter."""
    names = [field.strip().lower() for field in fields]
    known = (*COLUMNS_REQUIRED, *COLUMNS_OPTIONAL)
    for name in known:
        if names.count(name) > 1:
            return HeaderRefusal(name, "column-twice")
    for name in COLUMNS_REQUIRED:
        if name not in names:
            return HeaderRefusal(name, "column-missing")
    ignored = tuple(name if name.isprintable() else "?" for name in names if name not in known)
    return Columns({name: names.index(name) for name in known if name in names}, len(names), ignored)


def read_row(*, line: int, fields: Sequence[str], columns: Columns, today: date) -> RosterRow | Rejection:
    """The row, or the first thing that is wrong with it. Total: any text gives one of the two."""
    if len(fields) != columns.count:
        return Rejection(line, "row", "wrong-number-of-fields")
    place = columns.place
    person_id: str | None = None
    try:
        person_id = _person_id(fields[place["person_id"]])
        born = _date(fields[place["date_of_birth"]], "date_of_birth")
        if born > today:
            raise _Wrong("date_of_birth", "in-the-future")
        state = fields[place["state"]].strip().upper()
        if state not in STATES:
            raise _Wrong("state", "not-a-state" if state else "missing")
        starts = _date(fields[place["effective_from"]], "effective_from")
        ends = _end(fields[place["effective_to"]]) if "effective_to" in place else None
        if ends is not None and ends < starts:
            raise _Wrong("effective_to", "before-effective_from")
    except _Wrong as wrong:
        return Rejection(line, wrong.field, wrong.reason, person_id)
    return RosterRow(line, person_id, born, state, starts, ends)


def _person_id(text: str) -> str:
    value = text.strip()
    if not value:
        raise _Wrong("person_id", "missing")
    if len(value) > PERSON_ID_SIZE_MAX:
        raise _Wrong("person_id", "too-long")
    if not value.isprintable() or "\\" in value:
        raise _Wrong("person_id", "unexpected-characters")
    return value


def _date(text: str, field: str) -> date:
    value = text.strip()
    if not value:
        raise _Wrong(field, "missing")
    # fromisoformat also takes 20260131 and week dates, which a roster means to be something else.
    if len(value) != 10 or value[4] != "-" or value[7] != "-" or not value.isascii():
        raise _Wrong(field, "not-a-date-YYYY-MM-DD")
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise _Wrong(field, "not-a-date-YYYY-MM-DD") from None
    if not EARLIEST <= day <= LATEST and not (field == "effective_to" and day == OPEN_END):
        raise _Wrong(field, "out-of-range")
    return day


def _end(text: str) -> date | None:
    if not text.strip():
        return None
    day = _date(text, "effective_to")
    return None if day == OPEN_END else day


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportGuard:
    """How much of a sponsor's covered people a full file may leave out before somebody must confirm it."""

    absent_share_max: float = 0.10
    """Of those covered now. (A) Monthly turnover of an employer is a few percent; a truncated file loses far more."""
    covered_min: int = 20
    """Below this many covered people a share says nothing: any number may leave."""


def judge_full_file(*, covered: int, absent: int, unreadable: int, guard: ImportGuard) -> str | None:
    """Why a full file must be confirmed before its absences end coverage; None when it may be applied."""
    if absent == 0:
        return None
    if unreadable > 0:
        return "unreadable-rows"  # an absent person may be one of them
    if covered >= guard.covered_min and absent > covered * guard.absent_share_max:
        return "too-many-absent"
    return None
