"""Intake: what a person came for, how their knee is, and what follows, told in the same answer."""

import hashlib
from datetime import date
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import orjson
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from services.enrollment.api.fields import Body, Count, Email, Line80, Line300, Pain, Phone, State, Zone
from services.enrollment.api.sponsors import PersonBody, eligibility_body
from services.enrollment.api.telling import TellingRoute, screening_body
from services.enrollment.domain.intake import IntakeAnswers, IntakeRules, Route, route_intent
from services.enrollment.handlers.take_intake import IntakeTaken, take_intake
from services.enrollment.store.answers import Answer, load_answer, save_answer
from services.enrollment.store.intake_rules import load_intake_rules
from services.enrollment.store.memberships import find_members
from shared.auth import Principal, require
from shared.database import Connection
from shared.events.members import ContactChangedData, PainIntake, Surgery
from shared.events.vocabulary import Cause, Channel, Finding, Intent, Language, LocalTime, Sign
from shared.http import Problem
from shared.outcomes import Refusal
from shared.red_flags import screen
from shared.service import Service, this_service

router = APIRouter(prefix="/v1", tags=["intake"], route_class=TellingRoute)
ThisService = Annotated[Service, Depends(this_service)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the caller: the same key with the same body gets the same answer for 7 days.",
    ),
]
ENROLLING_FIELDS = (
    "sponsor_id", "person", "state", "time_zone", "cause", "pain", "days_per_week", "preferred_time", "contact",
)  # fmt: skip
"""What must be answered before somebody can be enrolled."""
KEY_REUSED = Refusal("idempotency-key-reused", "This Idempotency-Key was used with another body.")
ANOTHER_MEMBER = Refusal("member-is-another", "This person has another member id.")
AT_FAULT = {
    KEY_REUSED.reason: [{"field": "header.idempotency-key", "message": "used before with another body"}],
    ANOTHER_MEMBER.reason: [{"field": "body.member_id", "message": "not the id of this person"}],
}
"""The field, by the reason of a refusal."""


class PainBody(Body):
    """Three different numbers: now, the average of the last 24 hours, and what is usual for them."""

    now: Pain
    average_24h: Pain
    usual: Pain


class SurgeryBody(Body):
    procedure: Line80
    performed_on: date
    surgeon_cleared: bool
    """The surgeon allows physical therapy."""


class ContactBody(Body):
    given_name: Line80
    family_name: Line80
    email: Email | None = None
    phone: Phone | None = None


class IntakeBody(Body):
    """Only `intent` is needed where it leads to education; the fields of an enrolment are asked for when it leads
    to one."""

    intent: Intent
    language: Language = "en"
    signs: Annotated[tuple[Sign, ...], Field(max_length=5)] = ()
    """The signs that PT may help which the person has."""
    findings: Annotated[tuple[Finding, ...], Field(max_length=40)] = ()
    """Answers to the red-flag questions: those that apply."""
    member_id: UUID | None = None
    """A random UUID that the platform wants this person to have; one is made if left out."""
    sponsor_id: UUID | None = None
    person: PersonBody | None = None
    state: State | None = None
    """Where the person is treated; decides the PT's licence."""
    time_zone: Zone | None = None
    cause: Cause | None = None
    surgery: SurgeryBody | None = None
    pain: PainBody | None = None
    goals: Annotated[tuple[Line300, ...], Field(max_length=5)] = ()
    days_per_week: Annotated[Count, Field(ge=1, le=7)] | None = None
    preferred_time: LocalTime | None = None
    """HH:MM in the person's own zone."""
    contact: ContactBody | None = None
    consents: Annotated[tuple[Channel, ...], Field(max_length=4)] = ()
    """Channels on which the person agrees to be written to."""


@router.post("/intakes", status_code=201)
async def post_intake(
    body: IntakeBody,
    request: Request,
    service: ThisService,
    principal: Annotated[Principal, Depends(require("app", "member", "operator"))],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take an intake. 201: enrolled, or stopped by the screening (`outcome`); 202: on the waiting list; 200:
    education, and nothing is kept. Whatever the outcome, `screening.instruction` says what to do now."""
    rules = load_intake_rules()
    route = route_intent(intent=body.intent, signs=body.signs, rules=rules)
    if route == "education":
        return JSONResponse(_education(body, rules))
    _check_whole(body, service.clock.now().date())
    asker = _Asker(service, request, body, rules, route, principal, idempotency_key)
    for _ in range(3):
        answer = await asker.repeated()
        if answer is None:
            answer = await asker.ask()
        if answer is not None:
            return answer
    raise Problem(
        409, "intake-under-way", "Another intake of this person is under way; try again.", screening=_told(body)
    )


class _Asker:
    """One intake request and what is needed to answer it, once or again."""

    def __init__(
        self,
        service: Service,
        request: Request,
        body: IntakeBody,
        rules: IntakeRules,
        route: Route,
        principal: Principal,
        key: str | None,
    ) -> None:
        self._service, self._request, self._body, self._rules, self._route = service, request, body, rules, route
        self._principal, self._key, self._caller = principal, key, str(principal.subject)
        canonical = orjson.dumps(body.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        self._digest = hashlib.sha256(canonical).digest()

    async def repeated(self) -> Response | None:
        """The answer that this key got before. Raises Problem 409 when it was another question, whose red flags are
        told like those of any intake that is refused."""
        if self._key is None:
            return None
        async with self._service.requests.acquire() as connection:
            answer = await self._answered(connection)
        if answer is None:
            return None
        if answer.digest != self._digest:
            return await self.ask(refused=KEY_REUSED)
        return _json(answer.status, answer.body, {"Idempotency-Replayed": "true"})

    async def _answered(self, connection: Connection) -> Answer | None:
        return None if self._key is None else await load_answer(connection, caller=self._caller, key=self._key)

    async def ask(self, *, refused: Refusal | None = None) -> Response | None:
        """Carry it out, or refuse it for this. None when another request was faster and this one must look again."""
        answers = _answers(self._body)
        person = (answers.sponsor_id, answers.person_id)
        async with self._service.requests.acquire() as connection:
            known = (await find_members(connection, persons=[person])).get(person)
        member_id, intake_id = self._member_id(known), uuid4()
        if member_id is None:
            if known is None or not self._acts_for_others:  # nobody is told, nor is this caller who is covered
                raise self._another_member()
            member_id, refused = known, refused or ANOTHER_MEMBER
        try:
            async with self._service.command(
                "take-intake", member_ids=[member_id], request=self._request, command_id=str(intake_id)
            ) as work:
                # The members are locked now: what a faster request with this key left is committed, or not there.
                if (await find_members(work.connection, persons=[person])).get(person) != known:
                    raise _Overtaken
                if refused is None and await self._answered(work.connection) is not None:
                    raise _Overtaken
                taken = await take_intake(
                    work.connection,
                    answers=answers,
                    member_id=member_id,
                    intake_id=intake_id,
                    rules=self._rules,
                    command=work.command,
                    now=work.now,
                    refused=refused,
                )
                work.take(taken.outcomes)
                if taken.refusal is None:
                    status = 202 if taken.outcome == "waitlisted" else 201
                    content = orjson.dumps(self._content(taken, intake_id))
                    if self._key is not None and not await save_answer(
                        work.connection,
                        Answer(digest=self._digest, status=status, body=content),
                        caller=self._caller,
                        key=self._key,
                        now=work.now,
                    ):
                        raise _Overtaken
        except (_Overtaken, asyncpg.UniqueViolationError):
            return None
        if taken.refusal is not None:
            raise self._refused(taken)
        return _json(status, content)

    def _member_id(self, known: UUID | None) -> UUID | None:
        """The id that this person has or gets; None where another is asked for. A member acts for themself only; nobody
        gets a second id."""
        asked = self._body.member_id
        if not self._acts_for_others:
            asked = self._principal.person_id
            if self._body.member_id not in (None, asked):
                return None
        if known is not None and asked not in (None, known):
            return None
        return known or asked or uuid4()

    def _another_member(self) -> Problem:
        return Problem(
            409,
            ANOTHER_MEMBER.reason,
            ANOTHER_MEMBER.detail,
            errors=AT_FAULT[ANOTHER_MEMBER.reason],
            screening=_told(self._body),
        )

    @property
    def _acts_for_others(self) -> bool:
        return bool(self._principal.roles & {"app", "operator"})

    def _refused(self, taken: IntakeTaken) -> Problem:
        assert taken.refusal is not None
        reason = taken.refusal.reason
        uncovered = [{"field": "body.person", "message": taken.eligibility.reason}] if reason == "not-eligible" else []
        return Problem(
            422 if uncovered else 409,
            reason,
            taken.refusal.detail,
            errors=uncovered or AT_FAULT.get(reason, []),
            eligibility=eligibility_body(taken.eligibility),
            screening=screening_body(taken.screening, self._body.language),
        )

    def _content(self, taken: IntakeTaken, intake_id: UUID) -> dict[str, Any]:
        body, rules = self._body, self._rules
        return {
            "outcome": taken.outcome,
            "route": self._route,
            "intake_id": str(intake_id),
            "member_id": str(taken.member_id),
            "screening": screening_body(taken.screening, body.language),
            "eligibility": eligibility_body(taken.eligibility),
            "assessment": [
                {"sign": sign, "finding": rules.signs[sign].finding, "goal": rules.signs[sign].goal}
                for sign in body.signs
            ],
            "care_team": None
            if taken.team is None
            else {
                "pt": taken.team.pt.as_practitioner.model_dump(mode="json"),
                "coach": taken.team.coach.as_practitioner.model_dump(mode="json"),
                "reason": taken.team.reason,
            },
            "waiting_for": taken.waiting_for,
            "next_steps": _next_steps(taken, self._route, body),
        }


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status_code=status, headers=headers, media_type="application/json")


class _Overtaken(Exception):
    """Somebody else enrolled this person, or answered this key, meanwhile."""


def _check_whole(body: IntakeBody, today: date) -> None:
    """Raises Problem 422 naming each field that an enrolment needs and this body lacks, or that does not fit
    another."""
    wrong = {name: "needed to enrol" for name in ENROLLING_FIELDS if getattr(body, name) is None}
    if body.cause == "post-surgical" and body.surgery is None:
        wrong["surgery"] = "needed when the cause is post-surgical"
    if body.surgery is not None and body.surgery.performed_on > today:
        wrong["surgery.performed_on"] = "is in the future"
    if body.contact is not None:
        for channel, address in (("email", body.contact.email), ("sms", body.contact.phone)):
            if channel in body.consents and address is None:
                wrong["consents"] = f"names {channel}, but contact has no address for it"
    if wrong:
        raise Problem(
            422,
            "invalid-request",
            "Some fields are missing or do not fit.",
            errors=[{"field": f"body.{name}", "message": message} for name, message in wrong.items()],
            screening=_told(body),
        )


def _answers(body: IntakeBody) -> IntakeAnswers:
    assert body.sponsor_id and body.person and body.state and body.time_zone and body.cause and body.contact  # noqa: PT018
    assert body.pain is not None
    assert body.days_per_week is not None
    assert body.preferred_time is not None
    surgery = None if body.surgery is None else Surgery(**body.surgery.model_dump())
    return IntakeAnswers(
        sponsor_id=body.sponsor_id,
        person_id=body.person.person_id,
        date_of_birth=body.person.date_of_birth,
        intent=body.intent,
        signs=tuple(dict.fromkeys(body.signs)),
        findings=tuple(dict.fromkeys(body.findings)),
        cause=body.cause,
        surgery=surgery,
        pain=PainIntake(**body.pain.model_dump()),
        goals=body.goals,
        days_per_week=body.days_per_week,
        preferred_time=body.preferred_time,
        state=body.state,
        contact=ContactChangedData(**body.contact.model_dump(), time_zone=body.time_zone, language=body.language),
        channels=tuple(dict.fromkeys(body.consents)),
    )


def _told(body: IntakeBody) -> dict[str, Any]:
    return screening_body(screen(findings=body.findings), body.language)


def _education(body: IntakeBody, rules: IntakeRules) -> dict[str, Any]:
    """Answered from the rules alone: nothing about this person is written down."""
    return {
        "outcome": "education",
        "route": "education",
        "screening": _told(body),
        "articles": [{"id": article.id, "title": article.title[body.language]} for article in rules.education],
    }


def _next_steps(taken: IntakeTaken, route: Route, body: IntakeBody) -> list[str]:
    """What the app offers next."""
    if taken.outcome == "blocked":
        return ["follow-instruction"]
    if taken.outcome == "waitlisted":
        return ["wait-for-care-team"]
    steps = ["book-pt-visit"] if route == "pt-visit" or taken.screening.disposition == "pt-72h" else []
    if body.surgery is not None and not body.surgery.surgeon_cleared:
        steps.append("get-surgeon-clearance")
    return [*steps, "read-plan"]
