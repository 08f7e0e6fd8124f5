"""The invariants of consuming: what the books of a service may never show."""

from collections.abc import Sequence

from tests.model.consuming_rules import BLOCKING, Books, Record, Stream


def applicable(streams: Sequence[Stream]) -> frozenset[tuple[int, str]]:
    """What can take effect, as (stream, event): of each event the copies that are rightly published."""
    return frozenset(
        (number, record.event) for number, stream in enumerate(streams) for record in stream.records if not record.key
    )


def verdict(streams: Sequence[Stream], books: Books, *, moved: bool) -> str | None:
    """The invariant that these books break. `moved`: an operator may have moved a position, which counts twice."""
    return (
        _twice(streams, books)
        or _out_of_order(streams, books)
        or _missing(streams, books)
        or _stranded(streams, books)
        or _held_wrongly(streams, books)
        or (None if moved else _miscounted(books))
    )


def _record(streams: Sequence[Stream], stream: int, offset: int) -> Record:
    return streams[stream].records[offset]


def _twice(streams: Sequence[Stream], books: Books) -> str | None:
    seen: set[tuple[str, str]] = set()
    for stream, offset in books.effects:
        if streams[stream].is_safety:
            continue  # a flag told twice has the same identity, and its readers' inboxes drop it
        effect = (streams[stream].group, _record(streams, stream, offset).event)
        if effect in seen:
            return f"once: {effect[1]} took effect twice in {effect[0]}"
        seen.add(effect)
    return None


def _out_of_order(streams: Sequence[Stream], books: Books) -> str | None:
    last: dict[tuple[int, str], int] = {}
    for stream, offset in books.effects:
        record = _record(streams, stream, offset)
        if not streams[stream].is_safety:
            first = _first_copy(streams[stream].records, offset)
            if last.get((stream, record.member), -1) > first:
                return f"order: {record.event} took effect after a later event of {record.member}"
            last[stream, record.member] = first
    return None


def _first_copy(records: Sequence[Record], offset: int) -> int:
    """Where an event stands in the order of its member: where it lay first, unless under the key of another."""
    record = records[offset]
    copies = ((other.event, other.body, other.key) == (record.event, record.body, "") for other in records[:offset])
    return next((place for place, is_copy in enumerate(copies) if is_copy), offset)


def _missing(streams: Sequence[Stream], books: Books) -> str | None:
    """Every record below the position took effect, or is held; one whose like was taken has nothing to add."""
    effects: set[tuple[str, str, int]] = set()
    held: set[tuple[str, str, int]] = set()
    places = {(row.stream, row.offset) for row in books.held}
    for stream, offset in books.effects:
        record = _record(streams, stream, offset)
        effects.add((streams[stream].group, record.event, record.body))
    for row in books.held:
        record = _record(streams, row.stream, row.offset)
        if row.state in BLOCKING:
            held.add((streams[row.stream].group, record.event, record.body))
    for number, stream_ in enumerate(streams):
        for offset in range(max(0, books.positions[number])):
            record = stream_.records[offset]
            like = (stream_.group, record.event, record.body)
            if stream_.is_safety:
                if record.readable and not (record.raises or record.kills) and like not in effects:
                    return f"red flag: nobody looked for one in {record.event}"
            elif like not in effects and like not in held and (number, offset) not in places:
                return f"lost: {record.event} is below the position, had no effect and is not held"
    return None


def _stranded(streams: Sequence[Stream], books: Books) -> str | None:
    heads: dict[tuple[str, str], str] = {}
    for row in books.held:
        if row.state in BLOCKING:
            heads.setdefault((streams[row.stream].group, row.member), row.state)
    for (group, member), state in heads.items():
        if state == "parked":
            return f"stranded: the queue of {member} in {group} has nothing before it, and nobody takes it"
    return None


def _held_wrongly(streams: Sequence[Stream], books: Books) -> str | None:
    places = [(row.stream, row.offset) for row in books.held]
    if len(places) != len(set(places)):
        return "held twice: one record is held in two rows"
    for row in books.held:
        record = _record(streams, row.stream, row.offset)
        if row.state == "dead" and record.is_innocent:
            return f"innocent: {record.event} is a dead letter for nothing"
    return None


def _miscounted(books: Books) -> str | None:
    for stands, counted in zip(books.positions, books.counted, strict=True):
        if counted != max(0, stands):
            return f"books: {counted} records counted, the position is {stands}"
    return None
