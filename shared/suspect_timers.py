"""Which timers are claimed next: what a process remembers of transactions that failed as a whole, and tell nobody which
timer they came of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from shared.clock import monotonic
from shared.database import is_transient, took_too_long
from shared.telemetry import describe_bug

CLAIM_MAX = 500
"""Timers taken in one transaction."""
FAILURES_MAX = 8
"""After that many failures a timer stays, is counted and alarms; it is not tried again by itself."""
PAUSE_MAX_S = 30.0
"""Longest pause of a timer that failed together with its transaction."""
FORGET_S = 900.0
"""A suspect that is not due for so long, such as one that was cancelled, is forgotten."""
Ref: TypeAlias = tuple[str, str]
"""(kind, key) of a timer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Which timers are claimed next: those of `refs`, or with `others` all but them."""

    refs: Sequence[Ref] = ()
    others: bool = True
    limit: int = CLAIM_MAX
    is_verdict: bool = False
    """They failed alone too often: claimed to have that written down, not to run."""


@dataclass(slots=True)
class Suspect:
    """A timer that was alone in a transaction that failed as a whole."""

    failed: int = 0
    blamed: int = 0
    """How often the failure was its own: it took too long, or raised what is not the world's."""
    bug: str = ""
    not_before: float = 0.0


@dataclass(slots=True)
class Caution:
    """What a process remembers of transactions that failed as a whole.

    The next batch is half as large, down to one timer. That one becomes a suspect: it is claimed apart, in turn with
    all others and after a pause, so it delays them by one attempt at a time. Batches that go well double again, those
    of suspects too, for after an outage everything may be suspect. Lost with the process: the search starts again.
    """

    limit: int = CLAIM_MAX
    suspects_limit: int = 1
    suspects: dict[Ref, Suspect] = field(default_factory=dict)
    suspects_next: bool = False

    def turns(self) -> list[Turn]:
        """What to claim, the next one if nothing of the first is due."""
        at = monotonic()
        self.suspects = {ref: one for ref, one in self.suspects.items() if at < one.not_before + FORGET_S}
        ready = {ref: one for ref, one in self.suspects.items() if one.not_before <= at}
        judged = [ref for ref, one in ready.items() if one.blamed >= FAILURES_MAX]
        turns = [Turn(refs=list(self.suspects), limit=self.limit)]
        if ready:
            turns.insert(
                0 if self.suspects_next else 1, Turn(refs=list(ready), others=False, limit=self.suspects_limit)
            )
        if judged:
            turns.insert(0, Turn(refs=judged, others=False, is_verdict=True))
        return turns

    def note_failure(self, turn: Turn, claimed: Sequence[Ref], error: Exception, *, took_s: float) -> None:
        """The transaction that claimed these fails."""
        self.suspects_next = False
        if len(claimed) > 1:
            self._set_limit(turn, len(claimed) // 2)
            return
        suspect = self.suspects.setdefault(claimed[0], Suspect())
        suspect.failed += 1
        suspect.blamed += not is_transient(error) or took_too_long(error, took_s)
        suspect.bug = describe_bug(error)
        suspect.not_before = monotonic() + min(PAUSE_MAX_S, 2.0 ** min(suspect.failed, 10))

    def note_success(self, turn: Turn, claimed: Iterable[Ref]) -> None:
        """What these did is about to be committed."""
        self.suspects_next = turn.others
        self._set_limit(turn, min(CLAIM_MAX, 2 * turn.limit))
        for ref in claimed:
            self.suspects.pop(ref, None)

    def _set_limit(self, turn: Turn, limit: int) -> None:
        if turn.others:
            self.limit = limit
        else:
            self.suspects_limit = limit
