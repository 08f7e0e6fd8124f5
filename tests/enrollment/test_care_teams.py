"""Who cares for a member: licence, language, time zone, load."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.domain.care_team import (
    CareNeed,
    CareTeam,
    NoCareTeam,
    PanelMember,
    choose_care_team,
    place_members,
    zones_apart,
)
from services.enrollment.store.intake_rules import load_intake_rules

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
RULE = load_intake_rules().care_team
ZONES = st.sampled_from(["America/New_York", "America/Denver", "America/Los_Angeles", "Pacific/Honolulu"])
STATES = st.sampled_from(["NY", "NJ", "CO", "CA"])
LANGUAGES = st.sets(st.sampled_from(["en", "es"]), min_size=1)


def panel(role: str, **fields: Any) -> PanelMember:
    values: dict[str, Any] = {
        "practitioner_id": uuid4(),
        "role": role,
        "name": role,
        "licensed_states": frozenset({"NY"} if role == "pt" else ()),
        "languages": frozenset({"en"}),
        "time_zone": "America/New_York",
        "panel_limit": 10,
        "panel_size": 0,
        "accepting": True,
        **fields,
    }
    return PanelMember(**values)


@st.composite
def panels(draw: st.DrawFn) -> list[PanelMember]:
    found = []
    for _ in range(draw(st.integers(0, 8))):
        limit = draw(st.integers(1, 4))
        found.append(
            panel(
                draw(st.sampled_from(["pt", "coach"])),
                practitioner_id=draw(st.uuids()),
                licensed_states=frozenset(draw(st.sets(STATES, min_size=1))),
                languages=frozenset(draw(LANGUAGES)),
                time_zone=draw(ZONES),
                panel_limit=limit,
                panel_size=draw(st.integers(0, limit)),
                accepting=draw(st.booleans()),
            )
        )
    return found


def need(**fields: Any) -> CareNeed:
    return CareNeed(**{"state": "NY", "language": "en", "time_zone": "America/New_York", **fields})


@pytest.mark.parametrize(
    ("practitioners", "reason"),
    [
        ([panel("coach")], "no-pt-licensed-in-state"),
        ([panel("pt", licensed_states=frozenset({"NJ"})), panel("coach")], "no-pt-licensed-in-state"),
        ([panel("pt", languages=frozenset({"es"})), panel("coach")], "no-pt-speaks-language"),
        ([panel("pt", panel_size=10), panel("coach")], "no-pt-has-room"),
        ([panel("pt", accepting=False), panel("coach")], "no-pt-has-room"),
        ([panel("pt")], "no-coach-speaks-language"),
        ([panel("pt"), panel("coach", panel_limit=0)], "no-coach-has-room"),
    ],
)
def test_what_is_missing_is_said(practitioners: list[PanelMember], reason: str) -> None:
    assert choose_care_team(need=need(), rule=RULE, practitioners=practitioners, now=NOW) == NoCareTeam(reason)  # type: ignore[arg-type]


def test_nearer_hours_come_before_a_lighter_panel_and_load_decides_among_neighbours() -> None:
    near_full, near = panel("coach", panel_size=8), panel("coach", panel_size=7, time_zone="America/Chicago")
    far = panel("coach", time_zone="Pacific/Honolulu")
    team = choose_care_team(need=need(), rule=RULE, practitioners=[far, near_full, near, panel("pt")], now=NOW)
    assert isinstance(team, CareTeam)
    assert team.coach == near


def test_load_is_a_share_of_what_each_can_take() -> None:
    half_time, full_time = panel("coach", panel_limit=4, panel_size=2), panel("coach", panel_limit=100, panel_size=10)
    team = choose_care_team(need=need(), rule=RULE, practitioners=[half_time, full_time, panel("pt")], now=NOW)
    assert isinstance(team, CareTeam)
    assert team.coach == full_time


@given(practitioners=panels(), state=STATES, language=st.sampled_from(["en", "es"]), zone=ZONES)
def test_a_team_is_always_licensed_understood_and_has_room_and_is_found_if_there_is_one(
    practitioners: list[PanelMember], state: str, language: str, zone: str
) -> None:
    asked = need(state=state, language=language, time_zone=zone)
    team = choose_care_team(need=asked, rule=RULE, practitioners=practitioners, now=NOW)
    fit = [p for p in practitioners if language in p.languages and p.accepting and p.panel_size < p.panel_limit]
    pts = [p for p in fit if p.role == "pt" and state in p.licensed_states]
    coaches = [p for p in fit if p.role == "coach"]
    if isinstance(team, NoCareTeam):
        assert not pts or not coaches
    else:
        assert team.pt in pts
        assert team.coach in coaches
        assert team == choose_care_team(need=asked, rule=RULE, practitioners=practitioners[::-1], now=NOW)


@given(practitioners=panels(), needs=st.lists(st.tuples(STATES, ZONES), max_size=12))
def test_no_panel_is_ever_overfull(practitioners: list[PanelMember], needs: list[tuple[str, str]]) -> None:
    known = {p.practitioner_id: p for p in practitioners}
    teams = place_members(
        needs={uuid4(): need(state=state, time_zone=zone) for state, zone in needs},
        rule=RULE,
        practitioners=known,
        now=NOW,
    )
    assert len(teams) == len(needs)
    taken: dict[UUID, int] = {}
    for team in teams.values():
        if isinstance(team, CareTeam):
            for each in (team.pt.practitioner_id, team.coach.practitioner_id):
                taken[each] = taken.get(each, 0) + 1
    for practitioner_id, more in taken.items():
        assert known[practitioner_id].panel_size + more <= known[practitioner_id].panel_limit


def test_a_hand_over_moves_only_the_one_who_leaves() -> None:
    leaving, staying_full = panel("pt", accepting=False, panel_size=3), panel("coach", panel_size=10)
    other, empty = panel("pt"), panel("coach")
    team = choose_care_team(
        need=need(present_pt=leaving.practitioner_id, present_coach=staying_full.practitioner_id),
        rule=RULE,
        practitioners=[leaving, staying_full, other, empty],
        now=NOW,
    )
    assert isinstance(team, CareTeam)
    assert (team.pt, team.coach) == (other, staying_full)
    assert team.reason == (
        "Your physical therapist is licensed in NY; both speak English. "
        "Your physical therapist works near your hours and has room for you. Your coach stays."
    )


def test_the_reason_says_what_decided() -> None:
    far = panel("coach", time_zone="Pacific/Honolulu", languages=frozenset({"es"}))
    pt = panel("pt", languages=frozenset({"es"}))
    team = choose_care_team(need=need(language="es"), rule=RULE, practitioners=[pt, far], now=NOW)
    assert isinstance(team, CareTeam)
    assert team.reason == (
        "Your physical therapist is licensed in NY; both speak Spanish. "
        "Your physical therapist works near your hours and has room for you. "
        "Your coach works 5 hours from yours and has room for you."
    )
    decision = team.rule.rule.decide(team.reason)
    assert (decision.rule_id, decision.rule_version) == ("enrollment.care-team", 1)


def test_a_move_gives_the_old_place_back_to_the_next_in_line() -> None:
    leaving, only = (
        panel("coach", accepting=False, panel_limit=1, panel_size=1),
        panel("coach", panel_limit=1, panel_size=0),
    )
    pt = panel("pt")
    known = {p.practitioner_id: p for p in (leaving, only, pt)}
    first, second = uuid4(), uuid4()
    teams = place_members(
        needs={first: need(present_pt=pt.practitioner_id, present_coach=leaving.practitioner_id), second: need()},
        rule=RULE,
        practitioners=known,
        now=NOW,
    )
    assert isinstance(teams[first], CareTeam)
    assert teams[second] == NoCareTeam("no-coach-has-room")


def test_zones_are_compared_at_the_moment_not_in_general() -> None:
    winter, summer = datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 7, 15, tzinfo=UTC)
    assert zones_apart("America/Phoenix", "America/Los_Angeles", now=winter) == timedelta(hours=1)
    assert zones_apart("America/Phoenix", "America/Los_Angeles", now=summer) == timedelta(0)
