"""Before anyone joins: who works at the simulated clinic, who pays, who is covered. By enrollment's public HTTP."""

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from deploy.local.issuer.people import Person, load_people, save_people
from deploy.simulator.access import Access, Away
from deploy.simulator.people import STATES, Clinician, Member, Sponsor, clinicians, sponsors
from shared.clock import monotonic

TITLES = {"pt": "Physical therapist", "coach": "Health coach", "oncall": "On call for all members"}
COVERED_BEFORE_DAYS = 400
IMPORT_S = 60.0
POLL_S = 0.05
FINISHED = ("applied", "failed", "discarded", "replaced")


async def prepare_clinic(access: Access, *, members: Sequence[Member], now: datetime) -> None:
    """Sign-in for staff, practitioners, sponsors and their rosters. Doing it again changes nothing.

    Raises Refused when enrollment does not take them, Away when it stays away.
    """
    add_people(access.stack.issuer_data)
    operator = await access.as_operator()
    for clinician in clinicians():
        if clinician.role != "oncall":
            await access.ask(
                "POST", "enrollment", "/v1/practitioners", headers=operator, json=practitioner_body(clinician)
            )
    covers_from = (now - timedelta(days=COVERED_BEFORE_DAYS)).date()
    for sponsor in sponsors():
        terms = {
            "name": sponsor.name,
            "covers_from": covers_from.isoformat(),
            "states": sorted(state for states in STATES.values() for state in states),
        }
        await access.ask("PUT", "enrollment", f"/v1/sponsors/{sponsor.sponsor_id}", headers=operator, json=terms)
        covered = [member for member in members if member.sponsor == sponsor]
        if covered:
            await _import_roster(access, sponsor, covered, covered_from=covers_from.isoformat())


def add_people(issuer_data: Path) -> None:
    """Lets the simulated staff sign in. Whoever could before still can."""
    known = {person.subject: person for person in load_people(issuer_data)}
    staff = {
        clinician.practitioner_id: Person(
            subject=clinician.practitioner_id,
            name=clinician.name,
            roles=(clinician.role,),
            language=clinician.languages[0],
            title=TITLES[clinician.role],
        )
        for clinician in clinicians()
    }
    if not staff.keys() <= known.keys():
        save_people(issuer_data, list({**staff, **known}.values()))


def practitioner_body(clinician: Clinician) -> dict[str, object]:
    return {
        "practitioner_id": str(clinician.practitioner_id),
        "role": clinician.role,
        "name": clinician.name,
        "licensed_states": list(clinician.states) if clinician.role == "pt" else [],
        "languages": list(clinician.languages),
        "time_zone": clinician.time_zone,
        "panel_limit": clinician.panel_size_max,
    }


def roster(members: Sequence[Member], *, covered_from: str) -> bytes:
    """The sponsor's file: only what eligibility needs."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("person_id", "date_of_birth", "state", "effective_from", "effective_to"))
    for member in members:
        rows.writerow((member.sponsor_reference, member.birth_date.isoformat(), member.state, covered_from, ""))
    return text.getvalue().encode()


async def _import_roster(access: Access, sponsor: Sponsor, members: Sequence[Member], *, covered_from: str) -> None:
    headers = {**await access.as_operator(), "Content-Type": "text/csv"}
    answer = await access.ask(
        "POST",
        "enrollment",
        f"/v1/sponsors/{sponsor.sponsor_id}/imports",
        headers=headers,
        params={"mode": "delta", "rows": len(members)},
        content=roster(members, covered_from=covered_from),
    )
    path, deadline = f"/v1/imports/{answer.json()['import_id']}", monotonic() + IMPORT_S
    while (state := (await access.ask("GET", "enrollment", path, headers=headers)).json()["state"]) not in FINISHED:
        if monotonic() > deadline:
            raise Away(f"enrollment: a roster is still {state}")
        await asyncio.sleep(POLL_S)
    if state != "applied":
        raise Away(f"enrollment: a roster ended as {state}")
