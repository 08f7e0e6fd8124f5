"""The published stream: equal seeds give equal bytes, in any process; phones are as flaky as stated."""

import hashlib
import os
import subprocess
import sys
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import Cohort, population
from deploy.simulator.stream import Publication, published_stream, stream_bytes, until
from shared.events import PainReported, SessionCompleted

P = load_parameters()


def stream(*, seed: int, members: int, days: int, starts_on: date = date(2026, 8, 31)) -> list[Publication]:
    cohort = Cohort(seed=seed, members=members, days=days, starts_on=starts_on)
    sent = published_stream(cohort=cohort, members=population(cohort, P), p=P)
    return list(until(sent, cohort.starts_at + timedelta(days=days)))


def digest(*, seed: int, members: int = 12, days: int = 20) -> str:
    found = hashlib.sha256()
    for line in stream_bytes(iter(stream(seed=seed, members=members, days=days))):
        found.update(line)
    return found.hexdigest()


@settings(max_examples=15, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_one_seed_gives_the_same_bytes_twice_and_another_seed_others(seed: int) -> None:
    assert digest(seed=seed) == digest(seed=seed)
    assert digest(seed=seed) != digest(seed=seed + 1)


def test_another_process_with_other_hashes_gives_the_same_bytes() -> None:
    program = "from tests.simulator.test_stream import digest; print(digest(seed=42))"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for number in ("1", "2")
    }
    assert answers == {digest(seed=42)}


def test_another_size_is_another_population() -> None:
    """So that two runs of `simulate` never send different bodies under one identity."""
    ids = [{p.id for p in stream(seed=3, members=members, days=days)} for members, days in ((6, 30), (7, 30), (6, 31))]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    assert not ids[1] & ids[2]


def test_a_life_goes_on_after_the_days_in_which_its_population_joined() -> None:
    cohort = Cohort(seed=3, members=6, days=10, starts_on=date(2026, 8, 31))
    sent = published_stream(cohort=cohort, members=population(cohort, P), p=P)
    later = list(until(sent, cohort.starts_at + timedelta(days=100)))
    short = stream(seed=3, members=6, days=10)
    assert later[: len(short)] == short
    assert later[-1].at > cohort.starts_at + timedelta(days=95)


@pytest.fixture(scope="module")
def sent() -> list[Publication]:
    return stream(seed=4, members=300, days=84)


def test_it_is_sent_in_order_of_its_times(sent: list[Publication]) -> None:
    assert all(a.at <= b.at for a, b in pairwise(sent))


def test_every_event_is_valid_and_about_its_member(sent: list[Publication]) -> None:
    for publication in sent:
        if publication.kind != "event":
            continue
        event = event_of(publication)
        assert event.subject == publication.member.member_id
        assert event.id == publication.id
        assert event.time <= publication.at
        # The services refuse what is older than 30 days.
        assert publication.at - event.time < timedelta(days=3)


def test_identities_are_unique_but_for_repeats_with_the_same_body(sent: list[Publication]) -> None:
    bodies: dict[str, bytes] = {}
    for publication in sent:
        assert bodies.setdefault(publication.id, publication.body) == publication.body
    repeats = [p for p in sent if p.copy]
    assert len(bodies) == len(sent) - len(repeats)


def test_one_percent_is_sent_twice_and_one_percent_late(sent: list[Publication]) -> None:
    events = [p for p in sent if p.kind == "event" and p.copy == 0]
    repeats = [p for p in sent if p.copy]
    late = [p for p in events if p.at > event_of(p).time + timedelta(minutes=5)]
    assert len(repeats) / len(events) == pytest.approx(P.duplicate_share, abs=0.004)
    assert len(late) / len(events) == pytest.approx(P.late_share, abs=0.004)
    assert any(event_of(b).time < event_of(a).time for a, b in pairwise(by_member(events)) if a.member == b.member)


def event_of(publication: Publication) -> SessionCompleted | PainReported:
    if b"session.completed" in publication.body:
        return SessionCompleted.model_validate_json(publication.body)
    return PainReported.model_validate_json(publication.body)


def by_member(events: list[Publication]) -> list[Publication]:
    return sorted(events, key=lambda p: (p.member.index, p.at))


def test_a_member_joins_before_anything_else_is_sent(sent: list[Publication]) -> None:
    joined: set[int] = set()
    for publication in sent:
        if publication.kind == "intake":
            joined.add(publication.member.index)
        assert publication.member.index in joined
    assert len(joined) == 300
