"""Given a server that a run may have hurt, when it is asked, then whatever it fails with counts as not yet, and what is
nobody's fault but the run's own does not."""

import asyncpg
import pytest

from tests.chaos.patience import patient
from tests.fixtures.eventually import eventually


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionResetError,
        TimeoutError,
        asyncpg.CannotConnectNowError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ],
)
async def test_a_server_that_does_not_answer_is_asked_again(failure: type[Exception]) -> None:
    failures = iter([failure("gone")])

    async def asks() -> bool:
        for error in failures:
            raise error
        return True

    assert await eventually(patient(asks), within=5)


async def test_a_fault_of_the_run_ends_it() -> None:
    async def asks() -> bool:
        raise KeyError("what")

    with pytest.raises(KeyError):
        await eventually(patient(asks), within=5)
