"""What a row of a roster must say; when a full file needs somebody's word."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.domain.roster import (
    STATES,
    Columns,
    HeaderRefusal,
    ImportGuard,
    Rejection,
    RosterRow,
    judge_full_file,
    read_header,
    read_row,
)
from services.enrollment.store.imports import copy_line

TODAY = date(2026, 3, 2)
NAMES = ("person_id", "date_of_birth", "state", "effective_from", "effective_to")
GOOD = ("E-1", "1980-05-17", "NY", "2026-01-01", "2026-12-31")


def columns(*names: str) -> Columns:
    found = read_header(fields=names)
    assert isinstance(found, Columns)
    return found


def read(**changes: str) -> RosterRow | Rejection:
    fields = [changes.get(name, value) for name, value in zip(NAMES, GOOD, strict=True)]
    return read_row(line=7, fields=fields, columns=columns(*NAMES), today=TODAY)


def test_a_good_row() -> None:
    assert read() == RosterRow(7, "E-1", date(1980, 5, 17), "NY", date(2026, 1, 1), date(2026, 12, 31))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("person_id", "  ", "missing"),
        ("person_id", "x" * 65, "too-long"),
        ("person_id", "a\tb", "unexpected-characters"),
        ("person_id", "a\x00b", "unexpected-characters"),
        ("person_id", "a\\N", "unexpected-characters"),
        ("person_id", "a\u2028b", "unexpected-characters"),
        ("date_of_birth", "", "missing"),
        ("date_of_birth", "05/17/1980", "not-a-date-YYYY-MM-DD"),
        ("date_of_birth", "19800517", "not-a-date-YYYY-MM-DD"),
        ("date_of_birth", "1980-W20-6", "not-a-date-YYYY-MM-DD"),
        ("date_of_birth", "1980-02-30", "not-a-date-YYYY-MM-DD"),
        ("date_of_birth", "1980-05-1７", "not-a-date-YYYY-MM-DD"),
        ("date_of_birth", "1899-12-31", "out-of-range"),
        ("date_of_birth", "2026-03-03", "in-the-future"),
        ("state", "", "missing"),
        ("state", "ZZ", "not-a-state"),
        ("effective_from", "9999-12-31", "out-of-range"),
        ("effective_to", "2025-12-31", "before-effective_from"),
        ("effective_to", "tomorrow", "not-a-date-YYYY-MM-DD"),
    ],
)
def test_a_wrong_field_is_named_with_its_reason(field: str, value: str, reason: str) -> None:
    rejection = read(**{field: value})
    assert isinstance(rejection, Rejection)
    assert (rejection.line, rejection.field, rejection.reason) == (7, field, reason)
    # Whose row it was is known unless the identifier itself is wrong: that person is not absent from the file.
    assert rejection.person_id == (None if field == "person_id" else "E-1")


@pytest.mark.parametrize("value", ["", " ", "9999-12-31"])
def test_no_end_may_be_said_in_two_ways(value: str) -> None:
    row = read(effective_to=value)
    assert isinstance(row, RosterRow)
    assert row.effective_to is None


def test_a_row_with_a_field_too_many_or_too_few_is_rejected() -> None:
    for fields in (GOOD[:-1], (*GOOD, "x")):
        assert read_row(line=3, fields=fields, columns=columns(*NAMES), today=TODAY) == Rejection(
            3, "row", "wrong-number-of-fields"
        )


@given(fields=st.lists(st.text(max_size=80), max_size=7))
def test_any_row_gives_a_row_or_a_reason_that_fits_a_copy_line(fields: list[str]) -> None:
    result = read_row(line=2, fields=fields, columns=columns(*NAMES), today=TODAY)
    assert isinstance(result, RosterRow | Rejection)
    line = copy_line(result)
    assert line.count("\t") == 6
    assert line.count("\n") == 1
    assert "\x00" not in line


@given(
    person_id=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=64),
    born=st.dates(date(1900, 1, 1), TODAY),
    state=st.sampled_from(sorted(STATES)),
    starts=st.dates(date(1990, 1, 1), date(2100, 12, 31)),
)
def test_what_a_good_row_says_is_what_is_read(person_id: str, born: date, state: str, starts: date) -> None:
    row = read_row(
        line=2,
        fields=[f" {person_id} ", str(born), state.lower(), str(starts), ""],
        columns=columns(*NAMES),
        today=TODAY,
    )
    assert row == RosterRow(2, person_id, born, state, starts, None)


def test_columns_may_come_in_any_order_with_others_between() -> None:
    found = columns("Salary", " STATE ", "Person_ID", "effective_from", "date_of_birth")
    assert found.ignored == ("salary",)
    row = read_row(line=2, fields=["1", "NY", "E-1", "2026-01-01", "1980-05-17"], columns=found, today=TODAY)
    assert row == RosterRow(2, "E-1", date(1980, 5, 17), "NY", date(2026, 1, 1), None)


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        (NAMES[1:], HeaderRefusal("person_id", "column-missing")),
        ((*NAMES, "state"), HeaderRefusal("state", "column-twice")),
        (("person_id;date_of_birth;state;effective_from",), HeaderRefusal("person_id", "column-missing")),
    ],
)
def test_a_header_without_what_is_needed_is_refused(names: tuple[str, ...], refusal: HeaderRefusal) -> None:
    assert read_header(fields=names) == refusal


GUARD = ImportGuard(absent_share_max=0.1, covered_min=20)


@pytest.mark.parametrize(
    ("covered", "absent", "unreadable", "reason"),
    [
        (1000, 0, 0, None),
        (1000, 100, 0, None),
        (1000, 101, 0, "too-many-absent"),
        (1000, 1, 1, "unreadable-rows"),
        (1000, 0, 5, None),
        (19, 19, 0, None),
        (20, 3, 0, "too-many-absent"),
    ],
)
def test_a_full_file_that_leaves_out_many_needs_a_word(
    covered: int, absent: int, unreadable: int, reason: str | None
) -> None:
    assert judge_full_file(covered=covered, absent=absent, unreadable=unreadable, guard=GUARD) == reason
