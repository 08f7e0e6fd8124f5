"""What the simulation sends is what the services' public interfaces ask for."""

import csv
import io
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import orjson

from deploy.simulator.clinic import add_people, practitioner_body, roster
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import STATES, Cohort, clinicians, population, sponsors
from deploy.simulator.publish import AT_ONCE_MAX, BATCH_MAX, _runs
from deploy.simulator.stream import published_stream, until
from services.enrollment.api.intakes import IntakeBody
from services.enrollment.api.practitioners import PractitionerBody
from services.enrollment.domain.care_team import CareNeed, CareTeam, PanelMember, choose_care_team
from services.enrollment.domain.roster import RosterRow, read_header, read_row
from services.enrollment.store.intake_rules import load_intake_rules
from services.messaging.api.bodies import NewMessage
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder

COHORT = Cohort(seed=6, members=200, days=60, starts_on=date(2026, 8, 31))
P = load_parameters()
PEOPLE = population(COHORT, P)
SENT = list(until(published_stream(cohort=COHORT, members=PEOPLE, p=P), COHORT.starts_at + timedelta(days=60)))


def test_every_intake_is_whole() -> None:
    intakes = [IntakeBody.model_validate_json(p.body) for p in SENT if p.kind == "intake"]
    assert len(intakes) == 200
    for intake in intakes:
        assert intake.sponsor_id
        assert intake.contact
        if intake.cause == "post-surgical":
            assert intake.surgery is not None
    assert {intake.intent for intake in intakes} >= {"care-now", "seeking-treatment", "researching"}


def test_every_event_is_taken_by_the_decoder_of_its_topic() -> None:
    decoder = Decoder(TOPIC_OF["careloop.activity"])
    for publication in SENT:
        if publication.kind == "event":
            assert decoder.decode(publication.body, ()).subject == publication.member.member_id


def test_every_message_is_taken() -> None:
    texts = [p.body.decode() for p in SENT if p.kind == "message"]
    assert texts
    assert all(NewMessage(text=text).text == text for text in texts)


def test_a_roster_covers_everyone_of_its_sponsor() -> None:
    covered = [m for m in PEOPLE if m.sponsor == sponsors()[0]]
    rows = list(csv.reader(io.StringIO(roster(covered, covered_from="2026-01-01").decode())))
    columns = read_header(fields=rows[0])
    assert not hasattr(columns, "reason")
    read = [read_row(line=n, fields=row, columns=columns, today=date(2026, 9, 1)) for n, row in enumerate(rows[1:], 2)]
    assert all(isinstance(row, RosterRow) for row in read)
    assert {row.person_id for row in read} == {m.sponsor_reference for m in covered}
    assert len({m.sponsor_reference for m in PEOPLE}) == len(PEOPLE)


def test_everyone_gets_a_care_team_of_the_simulated_clinic() -> None:
    bodies = [PractitionerBody.model_validate(practitioner_body(c)) for c in clinicians() if c.role != "oncall"]
    panel = [
        PanelMember(
            practitioner_id=b.practitioner_id,
            role=b.role,
            name=b.name,
            licensed_states=frozenset(b.licensed_states),
            languages=frozenset(b.languages),
            time_zone=b.time_zone,
            panel_limit=b.panel_limit,
            panel_size=0,
            accepting=True,
        )
        for b in bodies
    ]
    assert {state for states in STATES.values() for state in states} >= {m.state for m in PEOPLE}
    rule = load_intake_rules().care_team
    for member in PEOPLE:
        need = CareNeed(state=member.state, language=member.language, time_zone=member.time_zone)
        team = choose_care_team(need=need, practitioners=panel, rule=rule, now=datetime(2026, 9, 1, tzinfo=UTC))
        assert isinstance(team, CareTeam), member


def test_staff_can_sign_in_and_whoever_could_before_still_can(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    from deploy.local.issuer.people import Person, load_people, save_people

    data = tmp_path_factory.mktemp("issuer")
    other = Person(subject=UUID(int=5), name="Somebody Else", roles=("operator",))
    save_people(data, [other])
    add_people(data)
    add_people(data)
    people = load_people(data)
    assert other in people
    assert Counter(role for person in people for role in person.roles) == Counter(pt=4, coach=3, oncall=1, operator=1)


def test_a_request_holds_neighbouring_events_in_order() -> None:
    theirs = [p for p in SENT if p.member.index == 3]
    runs = _runs(theirs)
    assert [p for run in runs for p in run] == theirs
    assert all(len({p.kind for p in run}) == 1 for run in runs)
    assert all(len(run) == 1 for run in runs if run[0].kind != "event")
    many = [p for p in SENT if p.kind == "event"][: BATCH_MAX * 2 + 1]
    assert [len(run) for run in _runs(many)] == [BATCH_MAX, BATCH_MAX, 1]
    assert AT_ONCE_MAX > 1
    assert all(orjson.loads(p.body) for p in many)
