"""A fetch waits for company while much comes, and only then."""

import asyncio
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from shared import gathering
from shared.clock import monotonic
from shared.gathering import ALONE_MS, QUIET_MS, TICK_S, TICKS_MAX, Gathering
from shared.intake import Intake
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunningService, RunService
from tests.shared.delivery.probe import ACTIVITY, build, pain


class Fetcher(SimpleNamespace):
    _fetch_max_wait_ms = ALONE_MS

    async def _proc_fetch_request(self, *request: Any) -> Any:
        return request


def test_a_fetch_waits_behind_one_that_brought_something_while_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 100.0
    monkeypatch.setattr(gathering, "monotonic", lambda: time)
    fetcher = Fetcher()
    one = Gathering(fetcher, gather_ms=30)

    def gathers_behind(records: int) -> bool:
        one.note(records)
        return one.gathers_for_s() > 0

    assert not gathers_behind(500), "too early to tell"
    assert one.patience_s() == 0
    time += 1.0
    assert gathers_behind(1)
    assert 0 < one.patience_s() <= TICK_S
    assert (time + one.patience_s()) / TICK_S == pytest.approx(round((time + one.patience_s()) / TICK_S))
    time += 0.031
    assert one.gathers_for_s() == 0, "its time is over, whatever came of it"
    assert gathers_behind(1)
    assert not gathers_behind(0), "nothing came meanwhile: what comes next is not kept waiting"
    other = Gathering(Fetcher(), gather_ms=30, phase_s=0.03)
    other.expects = True
    assert (other.patience_s() - one.patience_s()) % TICK_S == pytest.approx(TICK_S - 0.03), "groups take turns"
    hurried = Gathering(Fetcher(), gather_ms=5)
    time += 1.0
    assert gathers_behind(20), "another one is as likely as not to come within 30 ms"
    hurried.note(20)
    assert hurried.gathers_for_s() == 0, "none is to be expected within 5 ms"
    assert hurried.patience_s() > 0, "but soon"
    time += 1.0
    one.note(5)
    assert one.patience_s() == 0, "nor that"
    assert fetcher._fetch_max_wait_ms == ALONE_MS
    time += 1.0
    one.note(0)
    assert fetcher._fetch_max_wait_ms == QUIET_MS
    time += 1.0
    one.note(1)
    assert fetcher._fetch_max_wait_ms == ALONE_MS


@pytest.mark.parametrize(("per_s", "ticks"), [(500, 1), (340, 1), (200, 2), (120, 4), (20, TICKS_MAX)])
def test_the_fewer_come_the_longer_the_company_is_waited_for(
    per_s: int, ticks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given that so many come for a while, then what may wait is taken at each, each second or each fourth tick; but
    not at first, as few that come at once may be all."""
    time = 100.0
    monkeypatch.setattr(gathering, "monotonic", lambda: time)
    one = Gathering(Fetcher(), gather_ms=30)

    def note(records: int) -> set[float]:
        """When what came at some moment of the time after this would be taken, in ticks."""
        nonlocal time
        time += 1.0
        one.note(records)
        taken: set[float] = set()
        for _ in range(200):
            taken.add(round((time + one.patience_s()) / TICK_S, 4))
            time += 0.01
        return taken

    for most in (1, 2, 4):
        taken = sorted(note(3 * per_s if most > 1 else per_s))
        assert {later - sooner for sooner, later in pairwise(taken)} == {min(ticks, most)}
        assert all(tick % min(ticks, most) == 0 for tick in taken)
    assert len(note(0)) == 200, "at once"
    taken = sorted(note(3 * per_s))
    assert {later - sooner for sooner, later in pairwise(taken)} == {1}, "it begins anew"


async def test_a_fetch_that_gathers_is_sent_later_and_one_that_is_cancelled_brings_nothing() -> None:
    fetcher = Fetcher()
    one = Gathering(fetcher, gather_ms=30)
    assert await fetcher._proc_fetch_request("assignment", 1, "request") == ("assignment", 1, "request")
    began = monotonic()
    one._not_before = began + 0.03
    assert await fetcher._proc_fetch_request("assignment", 1, "request") == ("assignment", 1, "request")
    assert monotonic() >= began + 0.03
    one._not_before = monotonic() + 3600
    waiting = asyncio.create_task(fetcher._proc_fetch_request("assignment", 1, "request"))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    waiting.cancel()
    assert await waiting is False, "as the client's own"


async def test_what_hurries_ends_the_wait_of_the_fetch_that_waits_or_of_the_next_one() -> None:
    fetcher = Fetcher()
    one = Gathering(fetcher, gather_ms=30)
    one._not_before = monotonic() + 3600
    waiting = asyncio.create_task(fetcher._proc_fetch_request("assignment", 1, "first"))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    one.hurry()
    async with asyncio.timeout(20):
        assert (await waiting)[-1] == "first"
        one.hurry()  # while one is under way, that may not bring it
        assert (await fetcher._proc_fetch_request("assignment", 1, "second"))[-1] == "second"
    third = asyncio.create_task(fetcher._proc_fetch_request("assignment", 1, "third"))
    done, _ = await asyncio.wait([third], timeout=0.05)
    assert not done, "it hurries once"
    third.cancel()
    await asyncio.wait([third])


@pytest.mark.parametrize("missing", ["_fetch_max_wait_ms", "_proc_fetch_request"])
def test_a_client_that_calls_it_otherwise_is_noticed_at_once(missing: str) -> None:
    names = {"_fetch_max_wait_ms", "_proc_fetch_request"} - {missing}
    with pytest.raises(AttributeError):
        Gathering(SimpleNamespace(**dict.fromkeys(names)), gather_ms=30)


async def test_the_client_fetches_as_it_was_told(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a running service, when much comes and then nothing, then its client's fetches change and change back."""
    (intake,) = (one for one in probe.service.intakes if one.subscription.group == "probe.activity")
    assert intake.gathering is not None
    fetcher = intake.consumer._fetcher

    async def much_comes() -> bool:
        await publish(ACTIVITY, *(pain(uuid4(), 1) for _ in range(100)))
        return intake.gathering is not None and intake.gathering.expects

    asked, waited = list[int](), list[float]()
    send, gathers_for_s = fetcher._client.send, intake.gathering.gathers_for_s

    async def sending(node: int, request: Any, **options: Any) -> Any:
        if type(request).__name__.startswith("FetchRequest"):
            asked.append(fetcher._fetch_max_wait_ms)
        return await send(node, request, **options)

    def waiting() -> float:
        waited.append(gathers_for_s())
        return waited[-1]

    monkeypatch.setattr(fetcher._client, "send", sending)
    monkeypatch.setattr(intake.gathering, "gathers_for_s", waiting)
    await eventually(much_comes, within=20)
    await eventually(lambda: ALONE_MS in asked and max(waited) > 0, within=20)
    await eventually(lambda: not intake.gathering or not intake.gathering.expects, within=20)
    await eventually(lambda: (asked[-2:], waited[-2:]) == ([QUIET_MS] * 2, [0.0] * 2), within=20)


async def test_what_may_wait_does_until_what_may_not_comes(
    probe: RunningService, publish: Publish, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given that much comes, when a member has nothing to report and then a red flag, then that waits for nobody and
    takes along what was before it."""
    (intake,) = (one for one in probe.service.intakes if one.subscription.group == "probe.safety")
    assert intake.gathering is not None
    monkeypatch.setattr(intake.gathering, "patience_s", lambda: 3600.0)
    member = uuid4()

    def waiting() -> int:
        return sum(lane.waiting for lane in intake.lanes.values())

    await publish(ACTIVITY, pain(member, 1))
    await eventually(lambda: waiting() == 1, within=20)
    await publish(ACTIVITY, pain(member, 1, findings=("chest-pain-breathless",)))
    told = await consume("careloop.plans", count=3)
    assert sorted(event["type"].split(".")[2] for event in told) == ["pain", "pain", "safety"]
    assert waiting() == 0


@pytest.mark.parametrize("is_behind", [False, True])
async def test_a_safety_group_hears_of_a_red_flag_from_a_group_that_fetches_more_often(
    run_service: RunService, probe_url: str, publish: Publish, is_behind: bool
) -> None:
    """Given that much comes, and a safety group that fetches once an hour then, when a red flag comes it is fetched at
    once, and what is calm is not. So where the other group is behind, and stops fetching with what it has received."""
    slow = partial(build, safety_gathers_ms=3_600_000)
    async with run_service(slow, name="probe", database_url=probe_url) as probe:
        by_group = {one.subscription.group: one for one in probe.service.intakes}
        safety, activity = by_group["probe.safety"], by_group["probe.activity"]
        gathering = safety.gathering
        assert gathering is not None
        if is_behind:
            activity._high = 1, 1

        def taken(intake: Intake) -> int:
            return sum(lane.taken for lane in intake.lanes.values())

        async def it_waits() -> bool:
            await publish(ACTIVITY, *(pain(uuid4(), 1) for _ in range(20)))
            return gathering.gathers_for_s() > 3_000

        await eventually(it_waits, within=20)
        await eventually(lambda: all(lane.idle for one in (safety, activity) for lane in one.lanes.values()))
        before, ahead = taken(safety), taken(activity)
        await publish(ACTIVITY, pain(uuid4(), 1))
        await eventually(lambda: taken(activity) > ahead, within=20)
        assert taken(safety) == before
        await publish(ACTIVITY, pain(uuid4(), 1, findings=("chest-pain-breathless",)))
        await eventually(lambda: taken(safety) == taken(activity) > ahead + 1, within=20)
