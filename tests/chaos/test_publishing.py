"""A run that cannot go on ends and says so: it does not wait for ever."""

import pytest

from deploy.local.ports import choose_port
from tests.chaos import publishing
from tests.chaos.publishing import Publisher
from tests.chaos.stream import Publication


@pytest.mark.timeout(30)
async def test_what_kafka_never_accepts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "ACCEPTED_S", 0.5)
    publisher = Publisher(f"127.0.0.1:{choose_port()}", "nowhere")
    with pytest.raises(TimeoutError, match="Kafka accepts nothing"):
        await publisher.publish([Publication(0.0, "careloop.activity", b"key", b"{}")])
    await publisher.close()
