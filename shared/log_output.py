"""The way of log lines out of the process: whoever reads them may stall or go, and the work goes on.

A pipe takes 64 KB. Who writes to one that nobody reads stands still, and here that would be the loop that looks for red
flags; a disk that is full under the log collector is enough for it.
"""

import atexit
import os
import queue
import select
import threading

from prometheus_client import Counter

LINES_MAX = 10_000
"""Lines that wait for their reader; what comes then is lost, and counted."""
LAST_WORDS_S = 1.0
"""How long the end of the process waits for what is still to be written."""
LOG_LINES_LOST = Counter("careloop_log_lines_lost", "Log lines that nobody took.")


class LogOutput:
    """A text stream for lines, written by a thread of its own. Never blocks, never raises."""

    def __init__(self, file: int, *, lines_max: int = LINES_MAX) -> None:
        self._file = file
        self._lines: queue.Queue[bytes | None] = queue.Queue(lines_max)
        self._thread = threading.Thread(target=self._run, name="log output", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str) -> int:
        try:
            self._lines.put_nowait(text.encode("utf-8", "backslashreplace"))
        except queue.Full:
            LOG_LINES_LOST.inc()
        return len(text)

    def flush(self) -> None:
        """Lines are on their way already."""

    def close(self) -> None:
        """Give what was written a moment to be taken."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(LAST_WORDS_S)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            while line:
                try:
                    line = line[os.write(self._file, line) :]
                except BlockingIOError:  # whoever shares this end has writing fail instead of wait
                    select.select([], [self._file], [])
                except OSError:  # nobody reads any more, or there is no room
                    LOG_LINES_LOST.inc()
                    break
