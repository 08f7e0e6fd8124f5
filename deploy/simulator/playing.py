"""Playing populations into a stack: what is due by clinic time is sent, in order, and noted as sent."""

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from deploy.simulator.diary import CohortEntry, save_entry
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import Member, population
from deploy.simulator.publish import Phones, Sent
from deploy.simulator.stream import Publication, published_stream

AGE_MAX = timedelta(days=29)
"""The services refuse events older than 30 days; a phone that was away for longer forgets them."""
BATCH_MAX = 1_000
"""Publications sent between two notes of how far it went."""


def members_of(entry: CohortEntry) -> tuple[Member, ...]:
    return population(entry.cohort, load_parameters())


class Play:
    """One population on its way through time. `sent_until` of its entry says where it continues."""

    def __init__(self, *, entry: CohortEntry, phones: Phones, data: Path) -> None:
        self.entry, self._phones, self._data = entry, phones, data
        self.members = members_of(entry)
        self.sent = Sent()
        """By whoever played it, also before an interruption."""
        self._stream: Iterator[Publication] = published_stream(
            cohort=entry.cohort, members=self.members, p=load_parameters()
        )
        self._ahead: deque[Publication] = deque()
        """Taken from the stream, not sent yet."""
        self._written: list[Publication] = []

    def due(self, until: datetime) -> list[Publication]:
        """What there is to send up to and including a clinic time. Stays due until it was sent."""
        while not self._ahead or self._ahead[-1].at <= until:
            following = next(self._stream, None)
            if following is None:
                break
            if following.at >= self.entry.sent_until:
                self._ahead.append(following)
            else:
                self.sent.count(following.kind)
        return [publication for publication in self._ahead if publication.at <= until]

    def next_at(self, *, until: datetime) -> datetime | None:
        """Clinic time of the next thing to send, if it is not later than `until`."""
        found = self.due(until)
        return found[0].at if found else None

    def next_look(self, *, until: datetime) -> datetime | None:
        """When the next thing is sent that somebody should look at soon, if it is not later than `until`."""
        return next((publication.at for publication in self.due(until) if publication.needs_a_look), None)

    async def send_due(self, now: datetime, *, oldest: datetime | None = None) -> Sent:
        """Sends what is due, in order. Events older than `oldest` were forgotten by their phone."""
        total = Sent()
        due = self.due(now)
        for start in range(0, len(due), BATCH_MAX):
            batch = due[start : start + BATCH_MAX]
            kept = [p for p in batch if oldest is None or p.kind != "event" or p.at >= oldest]
            total.add(await self._phones.send(kept))
            for _ in batch:
                self._ahead.popleft()
        self.sent.add(total)
        self._written += [publication for publication in due if publication.kind == "message"]
        return total

    def take_written(self) -> list[Publication]:
        """Messages that members wrote since it was last asked."""
        written, self._written = self._written, []
        return written

    def note(self, sent_until: datetime, *, staff_did: Mapping[str, int] | None = None) -> None:
        """Writes down that all that was due before this clinic time has been taken, and what the staff did by then."""
        told = {} if staff_did is None else {"staff_did": dict(staff_did)}
        self.entry = self.entry.model_copy(update={"sent_until": sent_until, **told})
        save_entry(self._data, self.entry)
