"""What a simulated person answers at intake, as enrollment's public interface takes it."""

from datetime import date, timedelta
from typing import Any

from deploy.simulator.people import Member


def intake_body(member: Member, *, joins_on: date) -> dict[str, Any]:
    """The body of `POST /v1/intakes`; the same person always answers the same. `joins_on`: the day of the intake."""
    pain = member.usual_pain_told
    body: dict[str, Any] = {
        "intent": member.intent,
        "language": member.language,
        "signs": list(member.signs),
        "findings": list(member.findings),
        "sponsor_id": str(member.sponsor.sponsor_id),
        "person": {"person_id": member.sponsor_reference, "date_of_birth": member.birth_date.isoformat()},
        "state": member.state,
        "time_zone": member.time_zone,
        "cause": member.cause,
        "pain": {"now": min(10, pain + member.index % 2), "average_24h": pain, "usual": pain},
        "goals": [member.goal],
        "days_per_week": member.days_per_week,
        "preferred_time": member.preferred_time,
        "contact": {
            "given_name": member.given_name,
            "family_name": member.family_name,
            "email": member.email,
            "phone": member.phone,
        },
        "consents": ["email", "sms"] if member.index % 3 else ["email"],
    }
    if member.cause == "post-surgical":
        performed_on = joins_on - timedelta(days=45 + member.index % 40)
        body["surgery"] = {
            "procedure": "Arthroscopic partial meniscectomy",
            "performed_on": performed_on.isoformat(),
            "surgeon_cleared": True,
        }
    return body
