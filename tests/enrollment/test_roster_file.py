"""Cutting a CSV into records, whatever the blocks in which it comes."""

import csv
import io
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.domain.roster_file import RECORD_SIZE_MAX, FileRecord, RosterReader

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)
ROWS = st.lists(st.lists(TEXT, min_size=3, max_size=3), min_size=1, max_size=8)
SLIPPERY = st.lists(
    st.sampled_from(
        [b"a,b,c", b'"a",b,c', b'a,"b', b'b",c', b'a"b,c,d', b"", b"\r", b'"', b'""', b"\xff\xfe,x,y", b"x" * 9000]
    ),
    max_size=30,
)


def read_all(data: bytes, *, cuts: list[int]) -> list[FileRecord]:
    """The records of a file that comes in blocks ending at these places."""
    reader, start = RosterReader(), 0
    found: list[FileRecord] = []
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        found += reader.feed(data[start:end])
        start = end
    return [*found, *reader.end()]


@given(
    rows=ROWS,
    cuts=st.lists(st.integers(0, 300), max_size=10),
    line_end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_well_formed_files_are_read_as_the_csv_module_reads_them(
    rows: list[list[str]], cuts: list[int], line_end: str, mark: bool
) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    found = read_all((b"\xef\xbb\xbf" if mark else b"") + text.getvalue().encode(), cuts=cuts)
    assert [(record.fields, record.fault) for record in found] == [(row, "") for row in rows]


@given(lines=SLIPPERY, cuts=st.lists(st.integers(0, 2000), max_size=10))
def test_any_bytes_give_the_same_records_however_they_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(lines)
    found = read_all(data, cuts=cuts)
    assert found == read_all(data, cuts=[])
    places = [record.line for record in found]
    assert places == sorted(set(places))
    assert all(1 <= place <= len(lines) for place in places)


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_no_bytes_at_all_break_the_reader(data: bytes, cuts: list[int]) -> None:
    assert read_all(data, cuts=cuts) == read_all(data, cuts=[])


def faults(data: bytes) -> list[tuple[int, str]]:
    return [(record.line, record.fault) for record in read_all(data, cuts=[])]


def test_an_unclosed_quote_costs_its_own_line_only() -> None:
    assert faults(b'h,i\na,"b\nc,d\ne,f\n') == [(1, ""), (2, "unclosed-quote"), (3, ""), (4, "")]


def test_two_slips_do_not_swallow_the_rows_between_them() -> None:
    assert faults(b'h,i\na,"b\nc,d\ne",f\ng,h\n') == [
        (1, ""),
        (2, "unclosed-quote"),
        (3, ""),
        (4, "unclosed-quote"),
        (5, ""),
    ]


def test_a_quoted_line_end_is_one_record_and_later_lines_keep_their_numbers() -> None:
    found = read_all(b'h,i\na,"b\nb"\nc,d\n', cuts=[])
    assert found[1:] == [FileRecord(2, ["a", "b\nb"], lines=2), FileRecord(4, ["c", "d"])]


def test_one_undecodable_line_is_a_fault_and_its_neighbours_are_read() -> None:
    assert faults("h,i\né,1\n".encode() + "é,2\n".encode("latin-1") + b"c,3\n") == [
        (1, ""),
        (2, ""),
        (3, "wrong-encoding"),
        (4, ""),
    ]


def test_a_file_in_utf_16_says_so_at_its_header() -> None:
    assert faults("h,i\na,b\n".encode("utf-16"))[0] == (1, "wrong-encoding")


def test_empty_lines_are_no_records_but_count_as_lines() -> None:
    assert faults(b"h,i\r\n\r\n  \r\na,b") == [(1, ""), (4, "")]


def test_a_line_without_end_is_given_up_in_bounded_memory() -> None:
    reader = RosterReader()
    list(reader.feed(b"h,i\n"))
    tracemalloc.start()
    for _ in range(500):
        assert list(reader.feed(b"x" * 65_536)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * (65_536 + RECORD_SIZE_MAX)
    assert list(reader.feed(b"\na,b\n")) == [FileRecord(2, [], "too-long"), FileRecord(3, ["a", "b"])]
