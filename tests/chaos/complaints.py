"""What the Kafka client of a run says about brokers that the run itself took away is counted, not shown.

Only what the client alone has seen: its log, its callbacks, its futures. What a task of ours raises is shown.
"""

import asyncio
import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError

CLIENT = Path(aiokafka.__file__).parent


class Complaints:
    """Of the client in this process, while a loop runs."""

    def __init__(self) -> None:
        self.heard = 0

    def count(self) -> None:
        """From now on, in the running loop."""
        asyncio.get_running_loop().set_exception_handler(self._handle)
        client = logging.getLogger("aiokafka")
        client.propagate = False
        client.handlers = [_Counting(self)]

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if is_the_clients(context):
            self.heard += 1
        else:
            loop.default_exception_handler(context)

    def __str__(self) -> str:
        return f"{self.heard} complaints of the Kafka client about brokers that were away are not shown"


class _Counting(logging.Handler):
    def __init__(self, complaints: Complaints) -> None:
        super().__init__(logging.WARNING)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        self._complaints.heard += 1


def is_the_clients(context: dict[str, Any]) -> bool:
    """Whether a loop's complaint comes from inside the client, where nobody of ours waits for it."""
    error = context.get("exception")
    future = context.get("future")
    if isinstance(future, asyncio.Task):
        return False
    if future is not None:
        return isinstance(error, KafkaError)
    return error is not None and _is_raised_by_client(error.__traceback__)


def _is_raised_by_client(traceback: TracebackType | None) -> bool:
    file = ""
    while traceback is not None:
        file, traceback = traceback.tb_frame.f_code.co_filename, traceback.tb_next
    return Path(file).is_relative_to(CLIENT)
