"""Runs the errands of members and of their care team, and keeps what they were told.

A command is sent again until an answer is definite. A hold, a message and what is done about an alert have a key, by
which they act once, however often they are sent and whenever a copy is read; the others can be sent again as they are.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Literal
from uuid import UUID, uuid5

from shared.clock import monotonic
from shared.events.envelope import NAMESPACE
from shared.events.vocabulary import Practitioner
from tests.chaos.asking import Answer, Asker
from tests.chaos.errands import AlertErrand, Errands, MessageErrand, VisitErrand
from tests.chaos.overriding import OverrideTold
from tests.chaos.people import Cast

HELD_AGAIN_MAX = 5
NOTE = "simulated"
Step = Literal["booked", "moved", "cancelled", "completed"]
Deed = Literal["acknowledged", "resolved", "undone", "handed over", "put off"]
AlertDeed = tuple[Deed, UUID, UUID, int, str]
"""What, of which alert, by whom, which repeats they had seen, with which outcome; or until when. No event tells who
handed an alert over: `NOBODY`, and to which role."""
NOBODY = UUID(int=0)
Shown = dict[str, Any]
"""An alert as the queue shows it."""


@dataclass
class VisitTold:
    """What the answers to an errand said."""

    errand: VisitErrand
    visit_id: UUID
    is_held: bool = False
    """It had the time, if only for a while."""
    steps: list[Step] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MessageTold:
    """A message that was taken, as every answer to it said."""

    errand: MessageErrand
    message_id: UUID
    number: int
    instruction: str | None = None
    """What the member is to do at once, for what they wrote."""


@dataclass
class Told:
    """All that clients were told."""

    visits: list[VisitTold] = field(default_factory=list)
    messages: list[MessageTold] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Reasons for which a message was not taken; there is none."""
    overrides: list[OverrideTold] = field(default_factory=list)
    done: Counter[AlertDeed] = field(default_factory=Counter)
    perhaps: Counter[AlertDeed] = field(default_factory=Counter)
    """Refused after a try of which nobody was told: a copy of that may be read when it is refused no longer."""


class Clients:
    def __init__(self, asker: Asker, cast: Cast) -> None:
        self._asker, self._cast = asker, cast
        self.told = Told()
        self._busy: dict[object, asyncio.Lock] = {}

    async def play(self, errands: Errands) -> None:
        """Each at its time, or when who does it has done the one before."""
        began = monotonic()

        async def at(at_s: float, of: object, run: Any) -> None:
            await asyncio.sleep(max(0.0, at_s - (monotonic() - began)))
            async with self._busy.setdefault(of, asyncio.Lock()):
                await run()

        async with asyncio.TaskGroup() as group:
            for visit in errands.visits:
                group.create_task(at(visit.at_s, visit.member_id, lambda one=visit: self._visit(one)))
            for alert in errands.alerts:
                group.create_task(at(alert.at_s, alert.role, lambda one=alert: self._alert(one)))
            for message in errands.messages:
                group.create_task(at(message.at_s, ("message", message.number), lambda one=message: self._message(one)))

    # -- visits

    async def _visit(self, errand: VisitErrand) -> None:
        member_id, caller = str(errand.member_id), self._caller(errand)
        visit_id = uuid5(NAMESPACE, f"hold {caller} {_key(errand)}")
        told = VisitTold(errand, visit_id)
        self.told.visits.append(told)
        if not await self._held(errand, told) or errand.then == "leave":
            return
        for _ in range(HELD_AGAIN_MAX):
            booking = {"hold_id": str(visit_id), "reason": errand.reason}
            answer = await self._ask(errand, f"/v1/members/{member_id}/visits", booking)
            if answer.status == 201:
                told.steps.append("booked")
                break
            # The hold was over before it was booked.
            told.refused.append(answer.reason)
            if answer.reason not in ("hold-expired", "no-such-visit") or not await self._held(errand, told):
                return
        else:
            return
        await asyncio.sleep(errand.pause_s)
        if errand.moves_to is not None:
            where = {
                "practitioner_id": self._practitioner(errand),
                "starts_at": errand.moves_to.isoformat(),
                "moved_from": errand.starts_at.isoformat(),
            }
            answer = await self._ask(errand, f"/v1/visits/{visit_id}/reschedule", where)
            self._note(told, "moved", answer)
            await asyncio.sleep(errand.pause_s)
        if "cancel" in errand.then:
            answer = await self._ask(errand, f"/v1/visits/{visit_id}/cancel", None)
            self._note(told, "cancelled", answer)

    async def _held(self, errand: VisitErrand, told: VisitTold) -> bool:
        what = {
            "practitioner_id": self._practitioner(errand),
            "starts_at": errand.starts_at.isoformat(),
            "reason": errand.reason,
        }
        answer = await self._ask(errand, f"/v1/members/{errand.member_id}/holds", what, key=_key(errand))
        if answer.status != 201:
            told.refused.append(answer.reason)
            return False
        told.is_held = True
        return True

    async def document(self) -> None:
        """In the evening: some of the visits that were missed are completed after all."""
        open_ones = [one for one in self.told.visits if one.errand.documented and one.steps == ["booked"]]
        await asyncio.gather(*(self._document(one) for one in open_ones))

    async def _document(self, told: VisitTold) -> None:
        errand = told.errand
        who = self._cast.pt if errand.role == "pt" else self._cast.coach
        what = {"action": errand.documented, "note": NOTE}
        path = f"/v1/visits/{told.visit_id}/complete"
        token = self._asker.clinician(who)
        answer = await self._asker.ask("messaging", "POST", path, token=token, json=what)
        self._note(told, "completed", answer)

    def _note(self, told: VisitTold, step: Step, answer: Answer) -> None:
        """Whether it was done: a command that is sent again answers as it did the first time."""
        if answer.status == 200:
            told.steps.append(step)
        else:
            told.refused.append(answer.reason)

    async def _ask(self, errand: VisitErrand, path: str, what: object, *, key: str | None = None) -> Answer:
        headers = {"Idempotency-Key": key} if key else {}
        who = self._cast.pt if errand.role == "pt" else self._cast.coach
        token = self._asker.clinician(who) if errand.is_of_team else self._asker.member(errand.member_id)
        return await self._asker.ask("messaging", "POST", path, token=token, headers=headers, json=what)

    def _practitioner(self, errand: VisitErrand) -> str:
        return str((self._cast.pt if errand.role == "pt" else self._cast.coach).practitioner_id)

    def _caller(self, errand: VisitErrand) -> str:
        return self._practitioner(errand) if errand.is_of_team else str(errand.member_id)

    # -- messages

    async def _message(self, errand: MessageErrand) -> None:
        who = self._cast.pt if errand.role == "pt" else self._cast.coach
        token = self._asker.clinician(who) if errand.role else self._asker.member(errand.member_id)
        path, headers = f"/v1/members/{errand.member_id}/messages", {"Idempotency-Key": f"message-{errand.number}"}

        async def send() -> Answer:
            what = {"text": errand.text}
            return await self._asker.ask("messaging", "POST", path, token=token, headers=headers, json=what)

        for answer in await asyncio.gather(*(send() for _ in range(1 + errand.is_doubled))):
            if answer.status == 201:
                said = answer.body["message"]
                instruction = answer.body["instruction"]
                told = MessageTold(errand, UUID(said["message_id"]), said["number"], instruction)
                self.told.messages += [] if told in self.told.messages else [told]
            else:
                self.told.refused.append(answer.reason)

    # -- alerts

    async def _alert(self, errand: AlertErrand) -> None:
        who = self._cast.pt if errand.role == "pt" else self._cast.coach
        queue = (await self._asker.ask("messaging", "GET", "/v1/alerts", token=self._asker.clinician(who))).body
        if errand.does == "put off":
            # Of a red flag two groups tell, and no event tells of this: in their order it would have no place.
            queue = [alert for alert in queue if alert["kind"] != "safety"]
        if not queue:
            return
        alert = queue[errand.place % len(queue)]
        if errand.does == "hand over":
            await self._hand_over(who, alert, errand)
            return
        if errand.does != "resolve":
            taken = await self._acknowledge(who, alert, errand)
            if not taken or errand.does == "acknowledge":
                return
            if errand.does == "undo":
                await self._undo(who, alert, errand)
                return
            if errand.does == "put off":
                await self._put_off(who, alert, errand)
                return
            await asyncio.sleep(errand.pause_s)
        await self._resolve(who, alert, errand)

    async def _acknowledge(self, who: Practitioner, alert: Shown, errand: AlertErrand) -> bool:
        deed = self._deed("acknowledged", alert, who.practitioner_id, "")
        return await self._do(who, errand, deed, "POST", "acknowledge", {})

    async def _resolve(self, who: Practitioner, alert: Shown, errand: AlertErrand) -> None:
        deed = self._deed("resolved", alert, who.practitioner_id, errand.outcome)
        await self._do(who, errand, deed, "POST", "resolve", {"outcome": errand.outcome, "note": NOTE})

    async def _undo(self, who: Practitioner, alert: Shown, errand: AlertErrand) -> None:
        deed = self._deed("undone", alert, who.practitioner_id, "")
        await self._do(who, errand, deed, "DELETE", "acknowledge", None)

    async def _hand_over(self, who: Practitioner, alert: Shown, errand: AlertErrand) -> None:
        deed = self._deed("handed over", alert, NOBODY, errand.to_role)
        await self._do(who, errand, deed, "POST", "hand-over", {"to_role": errand.to_role})

    async def _put_off(self, who: Practitioner, alert: Shown, errand: AlertErrand) -> None:
        until = errand.back_at.astimezone(UTC).isoformat()
        deed = self._deed("put off", alert, who.practitioner_id, until)
        await self._do(who, errand, deed, "POST", "snooze", {"until": until})

    def _deed(self, what: Deed, alert: Shown, by: UUID, outcome: str) -> AlertDeed:
        return (what, UUID(alert["alert_id"]), by, alert["repeats"], outcome)

    async def _do(
        self, who: Practitioner, errand: AlertErrand, deed: AlertDeed, method: str, verb: str, body: Shown | None
    ) -> bool:
        """Whether it was done: once, however often it was sent and whenever a copy of it is read."""
        _, alert_id, _, seen, _ = deed
        what = None if body is None else {**body, "seen": seen}
        answer = await self._asker.ask(
            "messaging", method, f"/v1/alerts/{alert_id}/{verb}", token=self._asker.clinician(who),
            headers={"Idempotency-Key": f"alert-{errand.number}"}, json=what,
        )  # fmt: skip
        is_done = answer.status == 200
        self.told.done[deed] += is_done
        self.told.perhaps[deed] += not is_done and answer.unknown > 0
        return is_done


def _key(errand: VisitErrand) -> str:
    return f"errand-{errand.number}"


def practitioner_of(cast: Cast, errand: VisitErrand) -> Practitioner:
    return cast.pt if errand.role == "pt" else cast.coach
