"""Who cares for a member: one PT licensed in their state and one coach, by language, time zone and load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from services.enrollment.domain.rules import CareTeamRule
from shared.events.vocabulary import Language, Practitioner, PractitionerRole

SPOKEN: Final[Mapping[Language, str]] = {"en": "English", "es": "Spanish"}
NoMatch = Literal[
    "no-pt-licensed-in-state",
    "no-pt-speaks-language",
    "no-pt-has-room",
    "no-coach-speaks-language",
    "no-coach-has-room",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class PanelMember:
    """A professional who may take members, and how many they have."""

    practitioner_id: UUID
    role: PractitionerRole
    name: str
    licensed_states: frozenset[str]
    languages: frozenset[str]
    time_zone: str
    panel_limit: int
    panel_size: int
    accepting: bool

    @property
    def has_room(self) -> bool:
        return self.accepting and self.panel_size < self.panel_limit

    @property
    def as_practitioner(self) -> Practitioner:
        return Practitioner(practitioner_id=self.practitioner_id, role=self.role, name=self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class CareNeed:
    state: str
    language: Language
    time_zone: str
    present_pt: UUID | None = None
    """Their present PT and coach stay while they are still right: a hand-over moves nobody else's."""
    present_coach: UUID | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CareTeam:
    pt: PanelMember
    coach: PanelMember
    reason: str
    """Why these two, in one line that the member can read."""
    rule: CareTeamRule


@dataclass(frozen=True, slots=True)
class NoCareTeam:
    """Nobody can take this member now, and what is missing."""

    reason: NoMatch


def choose_care_team(
    *, need: CareNeed, practitioners: Sequence[PanelMember], rule: CareTeamRule, now: datetime
) -> CareTeam | NoCareTeam:
    """The team for this need. Licence and language are required; then the nearer time zone, the lighter load.

    Ties go to the lower id, so that the same facts always give the same team.
    """
    pts = [p for p in practitioners if p.role == "pt" and need.state in p.licensed_states]
    if not pts:
        return NoCareTeam("no-pt-licensed-in-state")
    pt = _choose(
        pts, need=need, keep=need.present_pt, rule=rule, now=now, mute="no-pt-speaks-language", full="no-pt-has-room"
    )
    if isinstance(pt, NoCareTeam):
        return pt
    coaches = [p for p in practitioners if p.role == "coach"]
    coach = _choose(
        coaches,
        need=need,
        keep=need.present_coach,
        rule=rule,
        now=now,
        mute="no-coach-speaks-language",
        full="no-coach-has-room",
    )
    if isinstance(coach, NoCareTeam):
        return coach
    return CareTeam(pt=pt, coach=coach, reason=_reason(pt, coach, need=need, rule=rule, now=now), rule=rule)


def _reason(pt: PanelMember, coach: PanelMember, *, need: CareNeed, rule: CareTeamRule, now: datetime) -> str:
    """What decided. Names stay out: the event has them, and a long one must not push the reason out."""
    said = [f"Your physical therapist is licensed in {need.state}; both speak {SPOKEN[need.language]}."]
    for who, chosen, present in (("physical therapist", pt, need.present_pt), ("coach", coach, need.present_coach)):
        if chosen.practitioner_id == present:
            said.append(f"Your {who} stays.")
            continue
        apart = zones_apart(chosen.time_zone, need.time_zone, now=now)
        hours = "near your hours" if apart < rule.near_within else f"{apart / timedelta(hours=1):g} hours from yours"
        said.append(f"Your {who} works {hours} and has room for you.")
    return " ".join(said)


def place_members(
    *, needs: Mapping[UUID, CareNeed], practitioners: Mapping[UUID, PanelMember], rule: CareTeamRule, now: datetime
) -> dict[UUID, CareTeam | NoCareTeam]:
    """A team for each member in turn, each placement counted before the next: no panel is ever overfull."""
    panels = dict(practitioners)
    teams: dict[UUID, CareTeam | NoCareTeam] = {}
    for member_id, need in needs.items():
        team = choose_care_team(need=need, practitioners=list(panels.values()), rule=rule, now=now)
        teams[member_id] = team
        if isinstance(team, CareTeam):
            for chosen, present in ((team.pt, need.present_pt), (team.coach, need.present_coach)):
                if chosen.practitioner_id != present:
                    _move(panels, chosen.practitioner_id, 1)
                    _move(panels, present, -1)
    return teams


def _move(panels: dict[UUID, PanelMember], practitioner_id: UUID | None, difference: int) -> None:
    if practitioner_id is not None and practitioner_id in panels:
        panel = panels[practitioner_id]
        panels[practitioner_id] = replace(panel, panel_size=panel.panel_size + difference)


def _choose(
    candidates: Sequence[PanelMember],
    *,
    need: CareNeed,
    keep: UUID | None,
    rule: CareTeamRule,
    now: datetime,
    mute: NoMatch,
    full: NoMatch,
) -> PanelMember | NoCareTeam:
    speaking = [p for p in candidates if need.language in p.languages]
    if not speaking:
        return NoCareTeam(mute)
    # Whoever has the member already needs no room for them, but must still take members.
    kept = [p for p in speaking if p.practitioner_id == keep and p.accepting]
    if kept:
        return kept[0]
    free = [p for p in speaking if p.has_room]
    if not free:
        return NoCareTeam(full)
    return min(
        free,
        key=lambda p: (
            zones_apart(p.time_zone, need.time_zone, now=now) // rule.near_within,
            p.panel_size / p.panel_limit,
            p.practitioner_id,
        ),
    )


def zones_apart(one: str, other: str, *, now: datetime) -> timedelta:
    """How far two IANA zones' clocks are apart at this moment."""
    return abs(_offset(one, now) - _offset(other, now))


@lru_cache(maxsize=1024)
def _offset(zone: str, now: datetime) -> timedelta:
    return now.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0)
