"""Playing goes on where it was interrupted, keeps order, forgets what is too old; clinic time holds and is released."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack, StackService
from deploy.simulator.clinic_time import ClinicTime, NotSettled, has_settled, unsettled, wait_settled
from deploy.simulator.diary import DIARY_FILE, CohortEntry, load_diary, save_entry
from deploy.simulator.people import Cohort
from deploy.simulator.playing import Play
from deploy.simulator.publish import Phones, Sent
from deploy.simulator.stream import Publication
from shared.clock import Anchor, AnchoredClock, wall_now, write_anchor

COHORT = Cohort(seed=2, members=8, days=14, starts_on=date(2026, 8, 31))


class RecordingPhones:
    """Takes everything and remembers it; fails when told to, before anything is taken."""

    def __init__(self) -> None:
        self.taken: list[Publication] = []
        self.broken = False

    async def send(self, publications: Sequence[Publication]) -> Sent:
        if self.broken:
            raise ConnectionError
        self.taken += publications
        sent = Sent()
        for publication in publications:
            sent.count(publication.kind)
        return sent


def new_play(data: Path, phones: RecordingPhones) -> Play:
    entry = load_diary(data).entry_of(COHORT) or CohortEntry.new(COHORT, via="both")
    return Play(entry=entry, phones=cast(Phones, phones), data=data)


async def test_an_interrupted_play_continues_without_a_gap(tmp_path: Path) -> None:
    whole = RecordingPhones()
    end = COHORT.starts_at + timedelta(days=14)
    uninterrupted = new_play(tmp_path, whole)
    await uninterrupted.send_due(end)

    cut = RecordingPhones()
    middle = COHORT.starts_at + timedelta(days=6)
    play = new_play(tmp_path, cut)
    await play.send_due(middle)
    play.note(middle, staff_did={"replied": 3})
    play.note(middle)
    assert new_play(tmp_path, cut).entry.staff_did == {"replied": 3}
    await play.send_due(middle + timedelta(hours=60))  # sent, and stopped before it was noted
    went_on = new_play(tmp_path, cut)
    await went_on.send_due(end)

    assert went_on.sent == uninterrupted.sent, "it counts what was sent before, too"
    assert went_on.sent.intakes == COHORT.members
    bodies = {p.order: p.body for p in cut.taken}
    assert list(bodies) == [p.order for p in whole.taken]
    assert all(bodies[p.order] == p.body for p in whole.taken)
    assert len(cut.taken) > len(whole.taken)


async def test_what_could_not_be_sent_stays_due(tmp_path: Path) -> None:
    phones = RecordingPhones()
    play = new_play(tmp_path, phones)
    until = COHORT.starts_at + timedelta(days=5)
    due = play.due(until)
    assert due
    phones.broken = True
    with pytest.raises(ConnectionError):
        await play.send_due(until)
    phones.broken = False
    await play.send_due(until)
    assert phones.taken == due
    assert play.due(until) == []


async def test_a_phone_forgets_old_events_but_never_the_intake(tmp_path: Path) -> None:
    phones = RecordingPhones()
    end = COHORT.starts_at + timedelta(days=14)
    oldest = COHORT.starts_at + timedelta(days=10)
    await new_play(tmp_path, phones).send_due(end, oldest=oldest)
    assert {p.kind for p in phones.taken if p.at < oldest} == {"intake", "message"}
    assert any(p.kind == "event" for p in phones.taken)


async def test_messages_are_told_to_the_staff_once(tmp_path: Path) -> None:
    play = new_play(tmp_path, RecordingPhones())
    await play.send_due(COHORT.starts_at + timedelta(days=14))
    written = play.take_written()
    assert written
    assert {p.kind for p in written} == {"message"}
    assert play.take_written() == []


def test_a_look_is_asked_for_where_somebody_tells_a_finding(tmp_path: Path) -> None:
    play = new_play(tmp_path, RecordingPhones())
    until = COHORT.starts_at + timedelta(days=14)
    looked = [p.at for p in play.due(until) if p.needs_a_look]
    assert play.next_look(until=until) == (looked[0] if looked else None)
    with_findings = [p for p in play.due(until) if p.kind == "event" and b'"findings":["' in p.body]
    assert all(p.needs_a_look for p in with_findings)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=12))
def test_a_diary_keeps_the_last_word_on_each_population(
    tmp_path_factory: pytest.TempPathFactory, notes: list[tuple[int, int]]
) -> None:
    data = tmp_path_factory.mktemp("diary")
    last: dict[int, datetime] = {}
    for seed, hours in notes:
        entry = CohortEntry.new(Cohort(seed=seed, members=1, days=1, starts_on=COHORT.starts_on), via="http")
        last[seed] = COHORT.starts_at + timedelta(hours=hours)
        save_entry(data, entry.model_copy(update={"sent_until": last[seed]}))
    assert {e.seed: e.sent_until for e in load_diary(data).cohorts} == last


def test_a_damaged_diary_says_so(tmp_path: Path) -> None:
    (tmp_path / DIARY_FILE).write_text('{"cohorts": 3}')
    with pytest.raises(LocalProblem, match="damaged"):
        load_diary(tmp_path)


def test_clinic_time_runs_to_its_limit_and_holds_there_for_every_process(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    time = ClinicTime(clock_file=path)
    start = wall_now() - timedelta(days=84)
    write_anchor(path, Anchor(clinic_at=start, wall_at=wall_now(), speed=0.0))
    assert time.now() == start
    limit = start + timedelta(hours=4)
    time.run_to(limit, within_s=0.02)
    other = AnchoredClock(path)
    seen = [time.now()]
    deadline = wall_now() + timedelta(seconds=10)
    while time.now() < limit:
        seen.append(time.now())
        assert wall_now() < deadline
    assert seen == sorted(seen)
    assert time.now() == other.now() == limit
    time.release()
    assert time.now() > limit
    assert abs(other.now() - wall_now()) < timedelta(seconds=5)


AT = datetime(2026, 9, 1, tzinfo=UTC)


def answer(*, settled: bool = True, now: datetime = AT, **more: object) -> dict[str, object]:
    return {"settled": settled, "now": now.isoformat(), **more}


def test_settled_means_nothing_under_way_at_that_clinic_time() -> None:
    assert has_settled(answer(), at=AT)
    assert not has_settled(answer(), at=AT + timedelta(seconds=1))
    assert not has_settled(answer(settled=False, lag=3), at=AT)
    assert not has_settled({"settled": False, "why": "starting"}, at=AT)


class Services:
    """Answers of services, one after the other, the last for ever."""

    def __init__(self, **answers: list[dict[str, object]]) -> None:
        self.answers, self.asked = answers, Counter[str]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host
        self.asked[name] += 1
        left = self.answers[name]
        return httpx.Response(200, json=left.pop(0) if len(left) > 1 else left[0])

    async def wait(self, *, within_s: float = 5.0) -> None:
        stack = Stack.model_construct(  # type: ignore[call-arg]  # only where the services are
            services={name: StackService(url=f"http://{name}", database_url="") for name in self.answers}
        )
        async with httpx.AsyncClient(transport=httpx.MockTransport(self)) as client:
            await wait_settled(client, stack, at=AT, within_s=within_s)


async def test_work_that_passes_on_between_two_questions_is_noticed() -> None:
    """plans had settled before it got what messaging had still to hand over."""
    late = answer(settled=False, lag=1)
    services = Services(plans=[answer(), late, answer()], messaging=[answer()])
    await services.wait()
    assert services.asked["plans"] == 4


async def test_only_who_is_busy_is_asked_again_until_all_are_asked_once_more() -> None:
    busy = answer(settled=False, outbox=2)
    services = Services(plans=[busy, busy, busy, answer()], messaging=[answer()])
    await services.wait()
    assert services.asked == {"plans": 5, "messaging": 2}


async def test_who_never_settles_is_named() -> None:
    services = Services(plans=[answer()], messaging=[answer(settled=False, due_timers=1)])
    with pytest.raises(NotSettled, match="messaging: due_timers 1"):
        await services.wait(within_s=0.1)


def test_who_still_works_on_what_is_said() -> None:
    line = unsettled({"plans": answer(settled=False, lag=3, outbox=0, due_timers=2), "messaging": answer()})
    assert line == "plans: lag 3, due_timers 2"
