"""What a safety group makes of a record that nobody can take, as the oracle knows it."""

from datetime import date

from services.plans.domain.answers import readable_findings
from tests.chaos.log import Record
from tests.chaos.reading import READ_LOOSELY, kinds_of, meant_by, read_as
from tests.chaos.run import draw_plan
from tests.chaos.stream import ACTIVITY, FLAGS, Kind

STREAM = draw_plan(8, seconds=14.0, today=date(2026, 3, 4)).stream


def records(*kinds: Kind) -> list[Record]:
    found = [one for one in STREAM if one.kind in kinds]
    return [Record(ACTIVITY, 0, offset, one.key, one.value, None) for offset, one in enumerate(found)]


def test_what_can_be_read_as_json_holds_a_red_flag_and_comes_twice() -> None:
    there = records(*READ_LOOSELY)
    fates = [read.fate for read in read_as(there, kinds_of(STREAM), is_safety=True)]
    assert sorted(fates) == ["repeat", "repeat", "taken", "taken"]
    assert {meant_by(one).data.findings for one in there} == set(FLAGS)
    assert all(readable_findings(meant_by(one).data.model_dump(mode="json")) for one in there)


def test_whoever_cannot_take_it_holds_each_copy() -> None:
    reads = read_as(records("malformed", *READ_LOOSELY), kinds_of(STREAM))
    assert sorted(read.reason for read in reads) == sorted(["malformed", *2 * sorted(READ_LOOSELY)])
    assert {read.fate for read in reads} == {"dead"}
