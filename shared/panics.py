"""What is raised although it is no Exception and nobody asked for it: a panic of an extension written in Rust, or a
CancelledError that no cancellation brought. Nobody who catches Exception sees it, and it ends whatever task it meets in
silence; where other people's code is called it becomes an error like any other."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any


class Panicked(RuntimeError):
    """Named after what was raised."""


def is_panic(error: BaseException) -> bool:
    """Whether nobody asked for it: not a signal's, a generator's or a cancellation's."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, Exception | KeyboardInterrupt | SystemExit | GeneratorExit)


def without_panics(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same handler, which raises nothing but Exceptions. Panicked where it panics."""

    @wraps(handler)
    async def guarded(*arguments: Any, **named: Any) -> Any:
        try:
            return await handler(*arguments, **named)
        except BaseException as error:
            if not is_panic(error):
                raise
            panicked = Panicked(type(error).__name__)
        raise panicked  # outside, so that no traceback shows what it may hold

    return guarded
