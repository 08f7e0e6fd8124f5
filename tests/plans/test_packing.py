"""A plan as bytes and back, in every layout that was ever written."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError

from services.plans.domain.care_plan import Adherence, CarePlan, Episode, Item, Lapse, PainLevel, Week
from services.plans.store.packing import KEPT, LAYOUT, pack_plan, unpack_plan
from shared.database import FromNextRelease
from tests.plans.domain.test_progression import take
from tests.plans.given import DAY, MONDAY, PLAN, plan, session

GOLDEN = Path(__file__).parents[1] / "golden" / "care-plans"


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10)), max_size=25))
def test_a_plan_read_back_is_the_plan_that_was_written(sessions: list[tuple[int, int]]) -> None:
    care_plan, at = plan(), MONDAY
    for gap_d, pain in sessions:
        at += gap_d * DAY
        disposition = "same-day" if pain == 10 else "none"
        care_plan = take(care_plan, session(care_plan, at=at, pain=pain, disposition=disposition)).plan
    read = unpack_plan(
        pack_plan(care_plan),
        member_id=care_plan.member_id, plan_id=care_plan.plan_id, version=care_plan.version, status=care_plan.status,
    )  # fmt: skip
    assert read == care_plan


LAYOUT_1 = b"""[1,"arthritis",[[1,3,5],[1,3,5],"18:00","America/New_York"],
[["bridge",1,3,10,3,3,false,[0],0,"good",null,null]],
3,[3.0,[2,2,3],[],[1788000000,-1.0],null,1788000000,null],1788706800,
[1,1788000000,0,0,1,0,[],[],null],null,null,false,null,null,[["urn:app","s1"]]]"""


LAYOUT_2 = b"""[2,"arthritis",[[1,3,5],[1,3],"18:00","America/New_York"],
[["bridge",1,3,10,3,3,false,[0,1],0,"good",1788000000,null],["mini-squat",0,2,null,null,2,true,[],0,"none",null,null]],
3,[3.0,[2,2,3],[4],[1788000000,-1.0],null,1788000000,
["00000000-0000-4000-8000-000000000002",1788000000,1788000000,7,null,false,false,true,false,1,
[["exercise",7],["daily",6]],1,0],2.5],1788706800,[9,1788000000,1,740000,1,2,["first-week"],[5,6],"chain"],
["same-day",0],"pain.level-stays-up",true,[7,740001,1788900000],1788800000,[["urn:app","s1"],["urn:app","s2"]]]"""


LAYOUT_3 = b"""[3,"arthritis",[[1,3,5],[1,3],"18:00","America/New_York"],
[["bridge",1,3,10,3,3,false,[["urn:app","s1"],["urn:app","s2"]],0,"good",1788000000,null],
["mini-squat",0,2,null,null,2,true,[],0,"none",null,null]],
3,[3.0,[2,2,3],[4],[1788000000,-1.0],null,1788000000,
["00000000-0000-4000-8000-000000000002",1788000000,1788000000,7,null,false,false,true,false,1,
[["exercise",7],["daily",6]],1,0],2.5],1788706800,[9,1788000000,["urn:app","s2"],740000,1,2,["first-week"],[5,6],"chain"],
["same-day",["urn:app","s1"]],"pain.level-stays-up",true,[7,740001,1788900000],1788800000]"""


def read_plan(state: bytes) -> CarePlan:
    return unpack_plan(state, member_id=PLAN, plan_id=PLAN, version=4, status="active")


def test_a_plan_in_the_first_layout_is_read_and_has_told_nothing_of_usual_pain() -> None:
    read = read_plan(LAYOUT_1)
    assert (read.pain.exercise, read.pain.told) == ((2, 2, 3), None)
    assert read.items[0].good == (("urn:app", "s1"),)
    assert read_plan(pack_plan(read)) == read


@pytest.mark.parametrize("state", [LAYOUT_2, LAYOUT_3], ids=["second", "third"])
def test_a_plan_in_an_earlier_layout_is_read_with_all_that_it_holds(state: bytes) -> None:
    """When its red flag was raised, and its review asked for, is not known."""
    read, first, second = read_plan(state), ("urn:app", "s1"), ("urn:app", "s2")
    bridge = Item("bridge", 1, 3, 10, 3, 3, good=(first, second), last_sign="good", progressed_s=1_788_000_000)
    assert read == CarePlan(
        member_id=PLAN, plan_id=PLAN, version=4, status="active", pathway="arthritis",
        week=Week((1, 3, 5), (1, 3), "18:00", "America/New_York"),
        items=(bridge, Item("mini-squat", 0, 2, None, None, 2, locked=True)),
        intake_usual=3,
        pain=PainLevel(
            3.0, (2, 2, 3), (4,), (1_788_000_000, -1.0), None, 1_788_000_000,
            Episode(PLAN, 1_788_000_000, 1_788_000_000, 7, None, recent=(("exercise", 7), ("daily", 6)), calm=1), 2.5,
        ),
        started_s=1_788_706_800,
        adherence=Adherence(9, 1_788_000_000, second, 740_000, 1, 2, ("first-week",), (5, 6), "chain"),
        safety=("same-day", first), review="pain.level-stays-up", stepped_back_for_gap=True,
        lapse=Lapse(7, 740_001, 1_788_900_000), lapse_timer_s=1_788_800_000, safety_s=None, review_s=None, ended_s=None,
    )  # fmt: skip
    assert read_plan(pack_plan(read)) == read


def test_a_plan_in_a_layout_of_the_next_release_is_nobodys_fault_and_a_damaged_one_is_not_read() -> None:
    with pytest.raises(FromNextRelease, match="layout 99"):
        read_plan(LAYOUT_1.replace(b"[1,", b"[99,", 1))
    written = pack_plan(read_plan(LAYOUT_2))
    with pytest.raises(ValidationError, match="Expected `int`"):
        read_plan(written.replace(b'"bridge",1,', b'"bridge","1",'))


def test_what_a_layout_holds_is_never_changed() -> None:
    """What is new in it, a value of a choice too, needs a number that releases before do not know: they wait."""
    held = without_words(json.loads(msgspec.json.encode(msgspec.json.schema(KEPT))))
    golden = GOLDEN / f"layout-{LAYOUT}.json"
    assert held == json.loads(golden.read_text()), f"{golden.name} holds something else: raise LAYOUT, add a file"


def without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: without_words(value) for name, value in schema.items() if name != "description"}
    return [without_words(value) for value in schema] if isinstance(schema, list) else schema
