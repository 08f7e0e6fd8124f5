"""A processor for the one thread that is measured, the others for the servers and for whoever watches.

As in a cluster, where database and broker are on machines of their own. Left to itself a machine of two processors lets
a backend of PostgreSQL, when it wakes, take the processor from the one thread on which the rate depends, though the
other one is free: that measures the scheduler. `PROCESSORS=shared make bench` leaves it to itself.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

IS_SHARED = os.environ.get("PROCESSORS") == "shared"


def _to_divide() -> list[int]:
    """The processors this process may use; none where they are not to be divided, or cannot be."""
    if IS_SHARED or not hasattr(os, "sched_getaffinity"):
        return []
    found = sorted(os.sched_getaffinity(0))
    return found if len(found) > 1 else []


@contextmanager
def one_for_the_worker(servers: Callable[[], list[int]]) -> Iterator[set[int]]:
    """The servers, asked for by process id, and this process leave one processor alone until the block ends; which one.
    Empty where there is nothing to divide."""
    processors = _to_divide()
    if not processors:
        yield set()
        return
    _place([*servers(), os.getpid()], set(processors[1:]))
    try:
        yield {processors[0]}
    finally:
        _place([*servers(), os.getpid()], set(processors))


@contextmanager
def starting_on(processors: set[int]) -> Iterator[None]:
    """What is started in the block runs on these processors; anywhere where there are none."""
    if not processors:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _place(pids: Iterable[int], processors: set[int]) -> None:
    """Every thread of these processes; what they start later follows."""
    for pid in pids:
        with suppress(ProcessLookupError, FileNotFoundError):  # it has ended
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), processors)
