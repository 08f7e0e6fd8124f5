"""The simulated staff: they answer alerts and messages, book visits and hold them, through messaging's public HTTP.

These are reactions: unlike the phones' stream they depend on what the system shows, and on when. What each person does
about an alert is still drawn from the alert's own id, so that equal histories give equal reactions.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from deploy.simulator.access import Access, Refused
from deploy.simulator.messages import NOTE_OF_ALERT, NOTE_OF_VISIT, reply_text
from deploy.simulator.parameters import Parameters
from deploy.simulator.people import LOOKS_AROUND, Member, chance, clinicians
from deploy.simulator.stream import Publication

KNOWN_MAX: Final = 500
"""Members of a population whose visits and conversations the staff care for; larger ones are there for their load."""
ESCALATED_PATIENCE: Final = timedelta(minutes=10)
AFTER_VISIT: Final = timedelta(minutes=5)
LOOK_EVERY: Final = timedelta(hours=9)
SLOT_LEAD: Final = timedelta(hours=18)
SOON: Final = frozenset({"emergency", "urgent", "soon"})
PRESSING: Final = frozenset({"emergency", "urgent"})
"""What is not resolved asks again within hours: the staff do not leave these to somebody else once they have them."""
FOR_A_VISIT: Final = frozenset({"pain-spike", "safety"})
"""Alerts after which a member may be seen."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """Who cares for a member."""

    pt_id: UUID
    coach_id: UUID


@dataclass(kw_only=True)
class Visit:
    """A booked visit, and what its practitioner will say of it; None: the member will not come."""

    visit_id: UUID
    practitioner_id: UUID
    ends_at: datetime
    action: str | None


@dataclass(kw_only=True)
class Handling:
    """What somebody means to do about an alert. `acknowledge_at` None: they overlook it until it escalates."""

    alert_id: UUID
    member_id: UUID
    kind: str
    by: UUID
    level: int
    soon: bool
    """It escalates within a working day or less."""
    pressing: bool
    seen: int
    """The alert's `repeats`: what they decide about."""
    taken_before: bool
    """It asks again only because nothing has come of it: the member was written to and seen to then."""
    raised_at: datetime
    acknowledge_at: datetime | None
    resolve_at: datetime
    acknowledged: bool = False
    visit: bool = False
    """Booked, or meant to be."""


@dataclass(frozen=True, kw_only=True)
class LeftToOthers:
    """What the simulated staff leave to whoever really sits at the console."""

    untouched_after: datetime
    """Alerts raised later are not theirs."""
    unresolved_after: datetime
    """What came of alerts raised later is not theirs to say."""
    unanswered_after: datetime
    """Messages to be answered later are not theirs."""

    @staticmethod
    def in_life(present: datetime, p: Parameters) -> "LeftToOthers":
        """Somebody may be at the console: the staff only keep things from lying around for ever."""
        return LeftToOthers(
            untouched_after=present - timedelta(hours=p.open_for_a_person_max_h),
            unresolved_after=present - timedelta(hours=p.unresolved_for_a_person_h),
            unanswered_after=present - timedelta(hours=p.unanswered_for_a_person_h),
        )

    @staticmethod
    def at_end(present: datetime, p: Parameters, looks: Sequence[datetime]) -> "LeftToOthers":
        """Of a seeding that ends at the present: enough of the spikes and findings (`looks`) for the console to have
        something to show, but none that the staff would take on the next day."""
        left = LeftToOthers.in_life(present, p)
        newest = sorted(look for look in looks if left.untouched_after + timedelta(days=1) < look <= present)
        kept = newest[-p.open_for_a_person_min :]
        usual = present - timedelta(hours=p.open_for_a_person_h)
        return replace(left, untouched_after=min(usual, kept[0] - timedelta(minutes=1)) if kept else usual)


def draw_delay(rng: random.Random, *, median: timedelta, log_sd: float = 0.7) -> timedelta:
    """People are sometimes quick and sometimes slow: log-normal."""
    return median * math.exp(rng.gauss(0, log_sd))


@dataclass(kw_only=True)
class CareTeam:
    """All simulated staff of a stack. `act` does what is due; `next_due` says when something will be."""

    access: Access
    p: Parameters
    done: Counter[str] = field(default_factory=Counter)
    """How often they did what, and what was refused."""
    _members: dict[UUID, tuple[str, Member]] = field(default_factory=dict)
    _teams: dict[UUID, Team] = field(default_factory=dict)
    _alerts: dict[UUID, Handling] = field(default_factory=dict)
    _replies: dict[UUID, datetime] = field(default_factory=dict)
    _visits: dict[UUID, Visit] = field(default_factory=dict)
    _asked_on: date | None = None
    _looked_at: datetime | None = None

    def tally(self) -> str:
        words = ("acknowledged", "resolved", "replied", "booked", "completed")
        return ", ".join(f"{self.done[word]} {word}" for word in words)

    async def add_members(self, cohort: str, members: Sequence[Member]) -> None:
        """Takes a population on, with what was already under way when the simulation was stopped."""
        known = [member for member in members if member.intent not in LOOKS_AROUND][:KNOWN_MAX]
        self._members |= {member.member_id: (cohort, member) for member in known}
        slots = asyncio.Semaphore(8)

        async def recall(member: Member) -> None:
            async with slots:
                await self._recall(member)

        await asyncio.gather(*(recall(member) for member in known))

    def notice(self, written: Iterable[Publication]) -> None:
        """Members wrote: somebody will answer."""
        for publication in written:
            member = publication.member
            if publication.kind == "message" and member.member_id in self._members:
                rng = chance(self._members[member.member_id][0], "reply", publication.id)
                delay = draw_delay(rng, median=timedelta(hours=self.p.reply_median_h))
                self._replies.setdefault(member.member_id, publication.at + delay)

    def next_due(self, *, after: datetime) -> datetime | None:
        """The next clinic time at which somebody means to do something that would soon be too late: what presses, until
        it is resolved, and the end of a visit."""
        times = [h.acknowledge_at for h in self._alerts.values() if h.soon and not h.acknowledged]
        times += [h.resolve_at for h in self._alerts.values() if h.pressing and h.acknowledged]
        times += [visit.ends_at + AFTER_VISIT for visit in self._visits.values() if visit.action]
        return min((time for time in times if time is not None and time > after), default=None)

    async def act(self, now: datetime, *, left: LeftToOthers, look: bool) -> None:
        """Everything due by now, but what is left to whoever is really there. `look`: at the queues too, which is done
        every now and then anyway."""
        if look or self._looked_at is None or now - self._looked_at > LOOK_EVERY:
            self._looked_at = now
            await self._look_at_queues(now, left=left)
        for handling in list(self._alerts.values()):
            await self._handle(handling, now, left=left)
        for member_id, due_at in list(self._replies.items()):
            if due_at <= min(now, left.unanswered_after):
                del self._replies[member_id]
                await self._attempt("replied", self._reply(member_id, due_at))
        for visit in list(self._visits.values()):
            if visit.ends_at + AFTER_VISIT <= now:
                del self._visits[visit.visit_id]
                if visit.action is not None:
                    await self._attempt("completed", self._complete(visit))
        await self._ask_for_visits(now)

    # -- alerts

    async def _look_at_queues(self, now: datetime, *, left: LeftToOthers) -> None:
        staff = clinicians()
        queues = await asyncio.gather(*(self._queue_of(clinician.practitioner_id) for clinician in staff))
        shown: set[UUID] = set()
        for clinician, queue in zip(staff, queues, strict=True):
            for alert in queue:
                alert_id, owner = UUID(alert["alert_id"]), alert["owner"]
                mine = owner is None or UUID(owner["practitioner_id"]) == clinician.practitioner_id
                if not mine or datetime.fromisoformat(alert["last_raised_at"]) > left.untouched_after:
                    continue
                if UUID(alert["member_id"]) not in self._members:
                    continue
                shown.add(alert_id)
                known = self._alerts.get(alert_id)
                again = known is not None and known.acknowledged == (alert["status"] == "open")
                if known is None or again or (known.level, known.seen) != (alert["level"], alert["repeats"]):
                    self._alerts[alert_id] = self._plan(alert, known, by=clinician.practitioner_id, now=now)
        for gone in self._alerts.keys() - shown:
            # Resolved, or in another person's hands.
            del self._alerts[gone]

    async def _queue_of(self, practitioner_id: UUID) -> list[dict[str, Any]]:
        headers = await self.access.as_staff(practitioner_id)
        answer = await self.access.ask("GET", "messaging", "/v1/alerts", headers=headers, params={"limit": 500})
        queue: list[dict[str, Any]] = answer.json()
        return queue

    def _plan(self, alert: dict[str, Any], known: Handling | None, *, by: UUID, now: datetime) -> Handling:
        p, level = self.p, int(alert["level"])
        rng = chance("alert", alert["alert_id"], level)
        acknowledged = alert["status"] == "acknowledged"
        raised_at = datetime.fromisoformat(alert["last_raised_at"])
        delay = draw_delay(rng, median=timedelta(minutes=p.acknowledge_median_min))
        acknowledge_at: datetime | None = raised_at + delay if level == 0 else now + ESCALATED_PATIENCE
        if level == 0 and rng.random() > p.acknowledged_share:
            acknowledge_at = None
        begins = now if acknowledged or acknowledge_at is None else acknowledge_at
        visit = alert["kind"] == "safety" or rng.random() < p.visit_after_alert_share
        pressing, taken_before = alert["priority"] in PRESSING, alert["acknowledged_at"] is not None
        if taken_before and known is not None:
            visit = known.visit
        resolve_after = (
            timedelta(minutes=p.resolve_pressing_median_min) if pressing else timedelta(hours=p.resolve_median_h)
        )
        return Handling(
            alert_id=UUID(alert["alert_id"]),
            member_id=UUID(alert["member_id"]),
            kind=alert["kind"],
            by=by,
            level=level,
            soon=alert["priority"] in SOON,
            pressing=pressing,
            seen=alert["repeats"],
            taken_before=taken_before,
            raised_at=raised_at,
            acknowledge_at=acknowledge_at,
            acknowledged=acknowledged,
            resolve_at=begins + draw_delay(rng, median=resolve_after),
            visit=visit and alert["kind"] in FOR_A_VISIT,
        )

    async def _handle(self, handling: Handling, now: datetime, *, left: LeftToOthers) -> None:
        due = handling.acknowledge_at
        if not handling.acknowledged and due is not None and due <= now:
            handling.acknowledged = True
            if not await self._attempt("acknowledged", self._acknowledge(handling)):
                # Somebody else has it, or it asks for more: the next look at the queue shows which.
                self._alerts.pop(handling.alert_id, None)
                return
            if not handling.taken_before:
                await self._attempt("replied", self._write(handling.member_id, handling.by, alert_id=handling.alert_id))
                if handling.visit:
                    reason = "safety" if handling.kind == "safety" else "pain-spike"
                    handling.visit = await self._attempt(
                        "booked", self._book(handling.member_id, reason=reason, now=now, handling=handling)
                    )
        theirs_to_say = handling.pressing or handling.raised_at <= left.unresolved_after
        if handling.acknowledged and handling.resolve_at <= now and theirs_to_say:
            self._alerts.pop(handling.alert_id, None)
            await self._attempt("resolved", self._resolve(handling))

    async def _acknowledge(self, handling: Handling) -> None:
        headers = await self.access.as_staff(handling.by)
        path = f"/v1/alerts/{handling.alert_id}/acknowledge"
        await self.access.ask("POST", "messaging", path, headers=headers, json={"seen": handling.seen})

    async def _resolve(self, handling: Handling) -> None:
        rng = chance("outcome", str(handling.alert_id))
        said = rng.choice(("reached-member", "not-reached" if handling.kind == "lapse" else "no-action-needed"))
        if handling.visit:
            said = "visit-booked"
        await self.access.ask(
            "POST",
            "messaging",
            f"/v1/alerts/{handling.alert_id}/resolve",
            headers=await self.access.as_staff(handling.by),
            json={"outcome": said, "note": NOTE_OF_ALERT, "seen": handling.seen},
        )

    # -- conversations

    async def _reply(self, member_id: UUID, due_at: datetime) -> None:
        team = await self._team_of(member_id)
        await self._write(member_id, team.coach_id, key=due_at.isoformat())

    async def _write(self, member_id: UUID, by: UUID, *, key: str = "", alert_id: UUID | None = None) -> None:
        language = self._members[member_id][1].language
        key = f"{member_id}/{alert_id or key}"
        text = reply_text(variant=chance("text", key).randrange(1000), language=language)
        headers = {**await self.access.as_staff(by), "Idempotency-Key": key}
        body = {"text": text} | ({"alert_id": str(alert_id)} if alert_id else {})
        await self.access.ask("POST", "messaging", f"/v1/members/{member_id}/messages", headers=headers, json=body)

    # -- visits

    async def _ask_for_visits(self, now: datetime) -> None:
        """Once a clinic day: some members want to see their PT."""
        if self._asked_on == now.date():
            return
        first = self._asked_on is None
        self._asked_on = now.date()
        for member_id, (cohort, member) in self._members.items():
            luck = chance(cohort, member.index, "visit", now.date()).random()
            if member.starts and not first and luck < self.p.visits_per_active_month / 30:
                await self._attempt("booked", self._book(member_id, reason="follow-up", now=now))

    async def _book(self, member_id: UUID, *, reason: str, now: datetime, handling: Handling | None = None) -> None:
        """A free time with the member's PT: booked by the member, or from an alert by whoever handles it."""
        team = await self._team_of(member_id)
        headers = await (self.access.as_staff(handling.by) if handling else self.access.as_member(member_id))
        alert = {"alert_id": str(handling.alert_id)} if handling else {}
        path = f"/v1/members/{member_id}"
        window = {"practitioner_id": str(team.pt_id), "from": (now + SLOT_LEAD).isoformat()}
        answer = await self.access.ask("GET", "messaging", f"{path}/slots", headers=headers, params=window)
        slots = answer.json()["slots"]
        if not slots:
            raise Refused(409, "no-slot", "no time is free")
        rng = chance("slot", str(member_id), now.isoformat())
        slot = slots[min(len(slots) - 1, int(rng.expovariate(1 / 12)))]
        hold = {"practitioner_id": str(team.pt_id), "starts_at": slot["starts_at"], "reason": reason, **alert}
        held = (await self.access.ask("POST", "messaging", f"{path}/holds", headers=headers, json=hold)).json()
        await self.access.ask(
            "POST", "messaging", f"{path}/visits", headers=headers, json={"hold_id": held["visit_id"]}
        )
        self._expect(held)

    def _expect(self, visit: dict[str, Any]) -> None:
        visit_id = UUID(visit["visit_id"])
        rng = chance("visit", str(visit_id))
        # A review also says that a red flag was looked at.
        action: str | None = "reviewed" if visit["reason"] == "safety" or rng.random() < 0.25 else "continue"
        if rng.random() < self.p.visit_missed_share:
            action = None
        self._visits[visit_id] = Visit(
            visit_id=visit_id,
            practitioner_id=UUID(visit["practitioner"]["practitioner_id"]),
            ends_at=datetime.fromisoformat(visit["ends_at"]),
            action=action,
        )

    async def _complete(self, visit: Visit) -> None:
        await self.access.ask(
            "POST",
            "messaging",
            f"/v1/visits/{visit.visit_id}/complete",
            headers=await self.access.as_staff(visit.practitioner_id),
            json={"action": visit.action, "note": NOTE_OF_VISIT},
        )

    # -- what was under way

    async def _recall(self, member: Member) -> None:
        """Booked visits, and messages that wait for an answer."""
        headers = await self.access.as_member(member.member_id)
        path = f"/v1/members/{member.member_id}"
        for visit in (await self.access.ask("GET", "messaging", f"{path}/visits", headers=headers)).json():
            if visit["status"] == "booked":
                self._expect(visit)
        answer = await self.access.ask("GET", "messaging", f"{path}/messages", headers=headers, params={"limit": 1})
        if (since := answer.json()["awaiting_since"]) is not None:
            self._replies[member.member_id] = datetime.fromisoformat(since) + timedelta(hours=self.p.reply_median_h)

    async def _team_of(self, member_id: UUID) -> Team:
        if member_id not in self._teams:
            headers = await self.access.as_operator()
            standing = (await self.access.ask("GET", "enrollment", f"/v1/members/{member_id}", headers=headers)).json()
            if not standing["pt_id"]:
                raise Refused(404, "no-care-team", "nobody cares for this member")
            self._teams[member_id] = Team(pt_id=UUID(standing["pt_id"]), coach_id=UUID(standing["coach_id"]))
        return self._teams[member_id]

    async def _attempt(self, word: str, doing: Awaitable[None]) -> bool:
        """Somebody real may have been first, or a time be taken: the staff then leave it."""
        try:
            await doing
        except Refused as refused:
            self.done[f"refused: {refused.code}"] += 1
            return False
        self.done[word] += 1
        return True

    @property
    def refusals(self) -> dict[str, int]:
        """How often what the staff meant to do was refused, by code."""
        return {word: count for word, count in self.done.items() if word.startswith("refused")}
