"""Whoever ends a run from elsewhere (a terminal that closes, a time limit) leaves no server and no service behind."""

import asyncio
import signal

ENDED_EARLY = "ended before its time; nothing was judged"
ENDED_EARLY_CODE = 3
"""Not that of a run which found something."""
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def end_when_told() -> None:
    """End the current task in an orderly way at the first of these signals; later ones do not cut that short. What the
    run was started to ignore, as `nohup` does, it goes on to ignore."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def end() -> None:
        for number in heard:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        task.cancel()

    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, end)
