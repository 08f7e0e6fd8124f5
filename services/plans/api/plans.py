"""The plan as apps and the care team read it, and the physical therapist's own decisions about it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.plans.domain.announcements import item_of, schedule_of
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.clinician import Override
from services.plans.domain.pain_baseline import usual_pain
from services.plans.domain.plan_issue import elements_of
from services.plans.domain.rules import Library
from services.plans.domain.schedule import items_on, next_session_at, zone_of
from services.plans.handlers.override_plan import override_plan
from services.plans.handlers.sign_phases import sign_phases
from services.plans.store.care_plans import load_care_plans
from services.plans.store.care_teams import load_care_teams
from services.plans.store.plan_revisions import find_item_decisions, find_plan_revisions
from services.plans.store.rules import load_library
from shared.auth import Principal, require
from shared.database import Connection
from shared.events.vocabulary import Exercise, Text80, Text300
from shared.http import Problem
from shared.red_flags import load_red_flag_rules
from shared.service import Service, this_service

router = APIRouter(prefix="/v1/members/{member_id}/plan", tags=["plans"])

Decisions = Mapping[str, tuple[str, dict[str, Any]]]
"""Of each exercise: what was done to it last, and the decision."""

REFUSALS: Final[Mapping[str, tuple[int, str]]] = {
    "no-plan": (404, "There is no plan of this member."),
    "care-ended": (409, "Care of this member has ended."),
    "version-conflict": (409, "The plan has changed since it was read. Read it again, then decide."),
    "no-such-exercise": (422, "The plan does not hold this exercise."),
    "no-such-step": (422, "The exercise's ladder has no such step."),
    "nothing-to-change": (422, "The item is already as asked for."),
    "not-post-surgical": (422, "Phases are signed on the post-surgical pathway only."),
}


class OverrideRequest(BaseModel):
    """One exercise edited, locked or unlocked. Values not given stay as they are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    expected_version: Annotated[int, Field(ge=1)]
    exercise: Exercise
    action: Literal["edit", "lock", "unlock"]
    reason: Text300
    """Read by the member, too."""
    step: Annotated[int, Field(ge=0, le=20)] | None = None
    sets: Annotated[int, Field(ge=1, le=10)] | None = None
    reps: Annotated[int, Field(ge=1, le=50)] | None = None
    hold_s: Annotated[int, Field(ge=1, le=300)] | None = None


class PhaseRequest(BaseModel):
    """A phase after surgery: which exercises, each at which step of its ladder."""

    model_config = ConfigDict(extra="forbid", strict=True)

    expected_version: Annotated[int, Field(ge=0)]
    phase: Text80
    surgeon_cleared: Literal[True]
    """The surgeon's clearance has been seen."""
    steps: Annotated[dict[Exercise, Annotated[int, Field(ge=0, le=20)]], Field(min_length=1, max_length=5)]


@router.get("")
async def read_plan(
    member_id: UUID,
    principal: Annotated[Principal, Depends(require("member", "coach", "pt", "oncall", "app"))],
    service: Annotated[Service, Depends(this_service)],
) -> dict[str, Any]:
    """The current plan and the next session, each item with the reason why it is where it is. 404 for anyone who is not
    the member or of their care team."""
    async with service.requests.acquire() as connection:
        plan = await _readable_plan(connection, member_id=member_id, principal=principal)
        decisions = await find_item_decisions(connection, plan_id=plan.plan_id)
    return _show(plan=plan, decisions=decisions, now_s=int(service.clock.now().timestamp()), library=load_library())


@router.get("/revisions")
async def read_revisions(
    member_id: UUID,
    principal: Annotated[Principal, Depends(require("member", "coach", "pt", "oncall", "app"))],
    service: Annotated[Service, Depends(this_service)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """The last versions of the current plan as they were told, newest first: which rule, version and evidence."""
    async with service.requests.acquire() as connection:
        plan = await _readable_plan(connection, member_id=member_id, principal=principal)
        revisions = await find_plan_revisions(connection, member_id=member_id, plan_id=plan.plan_id, limit=limit)
    return {"plan_id": plan.plan_id, "revisions": revisions}


@router.post("/overrides", status_code=200)
async def override(
    member_id: UUID,
    body: OverrideRequest,
    request: Request,
    principal: Annotated[Principal, Depends(require("pt"))],
    service: Annotated[Service, Depends(this_service)],
) -> dict[str, Any]:
    """Edit, lock or unlock one exercise of a member of one's own. 409 with the version of now where the plan has moved
    on since `expected_version`: nothing is merged."""
    async with service.command("override-plan", member_ids=[member_id], request=request) as work:
        await _must_be_their_pt(work.connection, member_id=member_id, principal=principal)
        done = await override_plan(
            work.connection,
            member_id=member_id,
            override=Override(
                exercise=body.exercise, action=body.action, reason=body.reason, step=body.step, sets=body.sets,
                reps=body.reps, hold_s=body.hold_s,
            ),
            expected_version=body.expected_version,
            practitioner_id=principal.person_id,
            command=work.command,
            now=work.now,
        )  # fmt: skip
        if done.refused:
            raise _refusal(done.refused, version=done.version)
        work.take(done.outcomes)
    assert done.revised is not None
    return done.revised.model_dump(mode="json", exclude_none=True)


@router.post("/phases", status_code=200)
async def sign(
    member_id: UUID,
    body: PhaseRequest,
    request: Request,
    principal: Annotated[Principal, Depends(require("pt"))],
    service: Annotated[Service, Depends(this_service)],
) -> dict[str, Any]:
    """Sign a phase after surgery. The first signature issues the plan (`expected_version` 0)."""
    async with service.command("sign-phase", member_ids=[member_id], request=request) as work:
        await _must_be_their_pt(work.connection, member_id=member_id, principal=principal)
        signed = await sign_phases(
            work.connection,
            member_id=member_id,
            phase=body.phase,
            steps=body.steps,
            expected_version=body.expected_version,
            practitioner_id=principal.person_id,
            command=work.command,
            now=work.now,
        )
        if signed.refused:
            raise _refusal(signed.refused, version=signed.version)
        work.take(signed.outcomes)
    assert signed.told is not None
    return signed.told.model_dump(mode="json", exclude_none=True)


async def _readable_plan(connection: Connection, *, member_id: UUID, principal: Principal) -> CarePlan:
    """The plan, if the caller may read it; the same 404 for a plan that is not there and one that is not theirs."""
    plan = (await load_care_plans(connection, member_ids=[member_id])).get(member_id)
    if plan is None or not await _may_read(connection, member_id=member_id, principal=principal):
        raise _refusal("no-plan", version=0)
    return plan


async def _may_read(connection: Connection, *, member_id: UUID, principal: Principal) -> bool:
    if "app" in principal.roles or ("member" in principal.roles and principal.subject == member_id):
        return True
    team = (await load_care_teams(connection, member_ids=[member_id])).get(member_id)
    if "oncall" in principal.roles and team is None:
        return True
    return team is not None and (
        ("pt" in principal.roles and principal.subject == team.pt_id)
        or ("coach" in principal.roles and principal.subject == team.coach_id)
    )


async def _must_be_their_pt(connection: Connection, *, member_id: UUID, principal: Principal) -> None:
    team = (await load_care_teams(connection, member_ids=[member_id])).get(member_id)
    if team is None or principal.subject != team.pt_id:
        raise _refusal("no-plan", version=0)


def _refusal(code: str, *, version: int) -> Problem:
    status, detail = REFUSALS[code]
    return Problem(status, code, detail, version=version) if version else Problem(status, code, detail)


def _show(*, plan: CarePlan, decisions: Decisions, now_s: int, library: Library) -> dict[str, Any]:
    items = [
        {
            **item_of(item=item, library=library).model_dump(mode="json", exclude_none=True),
            "steps": len(library.exercises[item.exercise].ladder),
            "last_action": decisions[item.exercise][0],
            "decision": decisions[item.exercise][1],
        }
        for item in plan.items
    ]
    return {
        "plan_id": str(plan.plan_id),
        "version": plan.version,
        "status": plan.status,
        "pathway": plan.pathway,
        "says": library.pathways.pathways[plan.pathway].says,
        "elements": [
            {"element": element, "content": content}
            for element, content in elements_of(pathway=plan.pathway, library=library)
        ],
        "items": items,
        "schedule": schedule_of(plan=plan).model_dump(mode="json"),
        "sessions_per_week": len(plan.week.weekdays),
        "usual_pain": usual_pain(level=plan.pain, rule=library.pain.baseline),
        "pain_episode_open": plan.pain.episode is not None and plan.pain.episode.open,
        "review_asked_by_rule": plan.review,
        "adherence": {
            "sessions": plan.adherence.sessions,
            "sessions_this_week": plan.adherence.week_sessions,
            "streak_weeks": plan.adherence.streak_weeks,
            "milestones": list(plan.adherence.milestones),
        },
        "next_session": _next_session(plan=plan, decisions=decisions, now_s=now_s, library=library),
    }


def _next_session(*, plan: CarePlan, decisions: Decisions, now_s: int, library: Library) -> dict[str, Any]:
    """The next session with its reasons, or why there is none."""
    if plan.safety is not None:
        text = load_red_flag_rules().dispositions[plan.safety[0]]
        return {"at": None, "why_not": "red-flag-open", "instruction": {"en": text.en, "es": text.es}}
    if plan.status != "active":
        return {"at": None, "why_not": plan.status}
    at = next_session_at(week=plan.week, now_s=now_s, last_session_s=plan.adherence.last_session_s)
    weekday = at.astimezone(zone_of(plan.week.time_zone)).isoweekday()
    asked = items_on(weekday=weekday, items=plan.items, week=plan.week, exercises=library.exercises)
    return {
        "at": at.isoformat(),
        "items": [
            {
                **item_of(item=item, library=library).model_dump(mode="json", exclude_none=True),
                "reason": decisions[item.exercise][1]["reason"],
            }
            for item in asked
        ],
    }
