"""What the console is told when something changed: which fragment to fetch again."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

FeedKind = Literal["alert", "conversation", "visit", "member"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewFeedEntry:
    """Something changed about a member. The member's care team sees it; `also` and the on-call role where said."""

    kind: FeedKind
    change: str
    """alert: the action (raised, acknowledged ...); conversation: message, read; visit: its new status;
    member: profile, team, pain, plan, timeline."""
    member_id: UUID
    subject_id: UUID
    """The alert, visit or conversation; the member's own id for kind `member`."""
    also: tuple[UUID, ...] = ()
    oncall: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedEntry:
    """An entry as a reader gets it. `number` is the cursor."""

    number: int
    kind: FeedKind
    change: str
    member_id: UUID
    subject_id: UUID
    entered_at: datetime

    def as_event(self) -> dict[str, str]:
        """The data of the server-sent event: names what to fetch, never its content."""
        return {
            "kind": self.kind,
            "change": self.change,
            "member_id": str(self.member_id),
            f"{self.kind}_id": str(self.subject_id),
            "at": self.entered_at.isoformat(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedHead:
    """Where the feed ends, and up to where it has been pruned."""

    last_number: int
    pruned_to: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedLook:
    """All that some audiences have to read above `after`, up to `end`."""

    after: int
    end: int
    head: int
    """Where the feed ended then: beyond `end` where there was more than one look brings, before `after` where the
    database was set back."""
    entries: Mapping[UUID, Sequence[FeedEntry]]
    """By audience, in order; an audience that was not asked for is missing."""

    def since(self, position: int, audiences: Collection[UUID]) -> list[FeedEntry] | None:
        """What a reader has not read who has read everything up to `position`; None where this look does not tell."""
        if not self.after <= position <= self.end or not self.entries.keys() >= set(audiences):
            return None
        found = [entry for audience in audiences for entry in self.entries[audience] if entry.number > position]
        return merge_entries(found)


def join_looks(looks: Iterable[FeedLook], *, after: int, audiences: Collection[UUID]) -> FeedLook | None:
    """One look of these, in whichever order they come: what these audiences have to read above `after`. None where
    they do not follow on each other from there on: something is missing, or was seen before."""
    entries: dict[UUID, list[FeedEntry]] = {audience: [] for audience in audiences}
    end = after
    for look in sorted(looks, key=lambda look: look.after):
        if look.after != end:
            return None
        for audience, more in look.entries.items():
            if audience in entries:
                entries[audience] += more
        end = look.end
    return FeedLook(after=after, end=end, head=end, entries=entries)


def place_cursor(*, asked: int | None, head: FeedHead) -> tuple[int, bool]:
    """Where to read on, and whether the reader must load everything afresh first.

    A reader without a cursor starts at the end. One whose cursor was pruned away, or lies ahead of the feed (a restored
    database), would miss something or wait for ever: it is told to start afresh from the end.
    """
    if asked is None:
        return head.last_number, False
    if asked < head.pruned_to or asked > head.last_number:
        return head.last_number, True
    return asked, False


def merge_entries(entries: Sequence[FeedEntry]) -> list[FeedEntry]:
    """In order, once each: someone who is on two audiences finds an entry twice."""
    return [entry for _, entry in sorted({entry.number: entry for entry in entries}.items())]
