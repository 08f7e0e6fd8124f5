"""A fetch waits for company while much comes, and only then."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from shared import gathering
from shared.gathering import ALONE_BYTES, ALONE_MS, GATHER_BYTES, QUIET_MS, SLACK_MS, TICK_S, Gathering
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunningService
from tests.shared.delivery.probe import ACTIVITY, pain

ALONE, TOGETHER, QUIET = (ALONE_MS, ALONE_BYTES), (30, GATHER_BYTES), (QUIET_MS, ALONE_BYTES)


class Fetcher(SimpleNamespace):
    _fetch_max_wait_ms, _fetch_min_bytes = ALONE

    @property
    def waits(self) -> tuple[int, int]:
        return self._fetch_max_wait_ms, self._fetch_min_bytes


def test_a_fetch_waits_behind_one_that_brought_something_while_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 100.0
    monkeypatch.setattr(gathering, "monotonic", lambda: time)
    fetcher = Fetcher()
    one = Gathering(fetcher, gather_ms=30)
    one.note(500)
    assert fetcher.waits == ALONE, "too early to tell"
    assert one.patience_s() == 0
    time += 1.0
    one.note(1)
    assert fetcher.waits == TOGETHER
    assert one.poll_ms(500) == 30 + SLACK_MS
    assert 0 < one.patience_s() <= TICK_S
    one.note(3)
    assert fetcher.waits == ALONE, "what comes next is not kept waiting for what may come behind it"
    assert one.poll_ms(500) == 500
    one.note(1)
    assert fetcher.waits == TOGETHER
    one.note(0)
    assert fetcher.waits == ALONE, "nothing came meanwhile"
    other = Gathering(Fetcher(), gather_ms=30, phase_s=0.03)
    other.expects = True
    assert (other.patience_s() - one.patience_s()) % TICK_S == pytest.approx(TICK_S - 0.03), "groups take turns"
    assert (time + one.patience_s()) / TICK_S == pytest.approx(round((time + one.patience_s()) / TICK_S))
    time += 1.0
    one.note(20)
    assert fetcher.waits == ALONE, "no other one is to be expected within 30 ms"
    assert one.patience_s() > 0, "but within a tick"
    time += 1.0
    one.note(5)
    assert one.patience_s() == 0, "nor that"
    time += 1.0
    one.note(0)
    assert fetcher.waits == QUIET
    time += 1.0
    one.note(1)
    assert fetcher.waits == ALONE


def test_a_client_that_calls_it_otherwise_is_noticed_at_once() -> None:
    with pytest.raises(AttributeError):
        Gathering(SimpleNamespace(fetch_max_wait_ms=100), gather_ms=30)


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

    asked: list[tuple[int, int]] = []
    send = fetcher._client.send

    async def sending(node: int, request: Any, **options: Any) -> Any:
        if type(request).__name__.startswith("FetchRequest"):
            asked.append((fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes))
        return await send(node, request, **options)

    monkeypatch.setattr(fetcher._client, "send", sending)
    await eventually(much_comes, within=20)
    await eventually(lambda: {*asked} >= {ALONE, TOGETHER}, within=20)
    await eventually(lambda: not intake.gathering or not intake.gathering.expects, within=20)
    await eventually(lambda: asked[-2:] == [QUIET, QUIET], within=20)


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
