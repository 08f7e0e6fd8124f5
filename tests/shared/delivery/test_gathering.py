"""A fetch waits for company while much comes, and only then."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from shared import gathering
from shared.gathering import ALONE_BYTES, ALONE_MS, GATHER_BYTES, GATHER_MS, Gathering
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService
from tests.shared.delivery.probe import ACTIVITY, pain

ALONE, TOGETHER = (ALONE_MS, ALONE_BYTES), (GATHER_MS, GATHER_BYTES)


class Fetcher(SimpleNamespace):
    _fetch_max_wait_ms, _fetch_min_bytes = ALONE

    @property
    def waits(self) -> tuple[int, int]:
        return self._fetch_max_wait_ms, self._fetch_min_bytes


def test_a_fetch_waits_while_many_come_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 100.0
    monkeypatch.setattr(gathering, "monotonic", lambda: time)
    fetcher = Fetcher()
    one = Gathering(fetcher)
    one.note(500)
    assert fetcher.waits == ALONE, "too early to tell"
    time += 1.0
    one.note(0)
    assert fetcher.waits == TOGETHER
    time += 1.0
    one.note(60)
    assert fetcher.waits == TOGETHER
    time += 1.0
    one.note(0)
    assert fetcher.waits == ALONE, "nothing came for a while"


def test_a_client_that_calls_it_otherwise_is_noticed_at_once() -> None:
    with pytest.raises(AttributeError):
        Gathering(SimpleNamespace(fetch_max_wait_ms=100))


async def test_the_client_fetches_as_it_was_told(probe: RunningService, publish: Publish) -> None:
    """Given a running service, when much comes and then nothing, then its client's fetches change and change back."""
    (intake,) = (one for one in probe.service.intakes if one.subscription.group == "probe.activity")
    assert intake.gathering is not None
    fetcher = intake.consumer._fetcher

    async def much_comes() -> bool:
        await publish(ACTIVITY, *(pain(uuid4(), 1) for _ in range(100)))
        return (fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes) == TOGETHER

    await eventually(much_comes, within=20)
    await eventually(lambda: (fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes) == ALONE, within=20)
    assert not intake.gathering.is_on
