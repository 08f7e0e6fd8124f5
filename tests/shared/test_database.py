"""What is tried again for ever, and what is somebody's bug."""

import socket

import asyncpg
import pytest

from shared.database import is_transient


@pytest.mark.parametrize(
    ("error", "world"),
    [
        (ConnectionRefusedError(), True),
        (socket.gaierror(), True),
        (OSError(113, "No route to host"), True),
        (TimeoutError(), True),
        (asyncpg.QueryCanceledError(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (IsADirectoryError(), False),
        (NotADirectoryError(), False),
        (FileExistsError(), False),
        (asyncpg.DataError(), False),
        (KeyError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_file_that_is_not_there_is_no_failure_of_the_world(error: Exception, world: bool) -> None:
    assert is_transient(error) is world
