"""The pain chart's values for a template, from what the store knows."""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.messaging.pages.pain_chart import SPAN, Episode, Reading, Usual, draw_pain_chart, y_of
from services.messaging.pages.rendering import Page
from services.messaging.pages.times import zone_of
from services.messaging.store.pages_members import load_course
from shared.database import Connection


async def course_values(
    connection: Connection,
    *,
    page: Page,
    member_id: UUID,
    usual_at_intake: int | None,
    enrolled_at: datetime | None,
    zone_name: str | None,
) -> dict[str, Any]:
    """`chart` (None without readings) and what its template needs beside it."""
    course = await load_course(connection, member_id=member_id, since=page.now - SPAN)
    at_intake = (
        [Usual(told_at=enrolled_at, level=usual_at_intake)] if enrolled_at and usual_at_intake is not None else []
    )
    chart = draw_pain_chart(
        readings=[
            Reading(felt_at=r.felt_at, score=r.score, context=r.context, event_id=r.event_id) for r in course.readings
        ],
        sessions=[session.completed_at for session in course.sessions],
        episodes=[
            Episode(started_at=e.started_at, settled_at=e.settled_at, score_max=e.score_max) for e in course.episodes
        ],
        spike_event_ids=course.spike_event_ids,
        usual=[*at_intake, *(Usual(told_at=told.told_at, level=told.level) for told in course.usual)],
        now=page.now,
        zone=zone_of(zone_name),
    )
    about = page.say(
        "chart.about",
        sessions=len(chart.sessions),
        readings=len(chart.points),
        flares=len(chart.flares),
        usual=page.say("chart.unknown")
        if chart.usual is None
        else page.say("chart.usual", level=f"{chart.usual.level:g}", day=page.day(chart.usual.told_at, zone_name)),
    )
    return {"chart": chart if chart.points else None, "chart_about": about, "chart_zone": zone_name, "y_of": y_of}
