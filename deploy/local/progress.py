"""What `careloop up` shows: a spinner with what is being done on a terminal, plain lines anywhere else."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Progress:
    """Lines that stay, and steps that are in progress. Everything that may take over a second is a step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[str] = []
        self._status: Status | None = None

    def say(self, line: str) -> None:
        """One line that stays. Where it cannot be written, as on a disk that is full, what it tells of goes on."""
        with contextlib.suppress(OSError):
            self._console.print(escape(line), highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Shows `text` while the block runs; several may run at once. Ends with a line that tells how long it took."""
        started = time.monotonic()
        self._steps.append(text)
        if not self._console.is_terminal:
            self.say(f"{text} ...")
        self._show()
        try:
            yield
        except BaseException:
            self._steps.remove(text)
            self._show()
            raise
        self._steps.remove(text)
        self._show()
        self.say(f"{text}: done in {time.monotonic() - started:.1f} s")

    def _show(self) -> None:
        if not self._console.is_terminal:
            return
        if self._steps and self._status is None:
            self._status = self._console.status("")
            self._status.start()
        if self._status is None:
            return
        if self._steps:
            self._status.update(escape("; ".join(self._steps)))
        else:
            self._status.stop()
            self._status = None
