"""From one service to the next as a machine: consume, decide, outbox, relay, log, consume again, with commands between.

A consumer's transaction is one action here, on any chunk that begins at or before the position: the model of consuming
shows that nothing comes between its steps, and this contains every zombie, every repeat and every unknown commit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What only shows from end to end, a flag a rule."""

    derived_ids: bool = True
    """An event's id derives from what caused it, so that a decision made again is the same event."""
    outbox_in_transaction: bool = True
    """The outbox row is written in the transaction of the decision."""
    reader_inbox: bool = True
    """The second service drops what it took before."""
    replay_publishes: bool = True
    """What a replay decides goes through the outbox as what a chunk decides."""
    relay_stops: bool = True
    """After a failed record the relay sends no later one before it was sent again."""


class Event(NamedTuple):
    name: str
    member: str
    attempt: int = 0
    """Tells apart two decisions of the same thing, where ids are not derived."""


class Side(NamedTuple):
    """A service's books. A member is parked while anything of them is in the queue."""

    position: int = 0
    inbox: frozenset[Event] = frozenset()
    queue: tuple[Event, ...] = ()
    effects: tuple[Event, ...] = ()


class Relay(NamedTuple):
    todo: tuple[Event, ...] = ()
    acknowledged: frozenset[Event] = frozenset()
    stopped: bool = False
    flying: tuple[Event, ...] = ()


class Luck(NamedTuple):
    failures: int = 0
    crashes: int = 0
    first_restores: int = 0
    second_restores: int = 0


class First(NamedTuple):
    """The first service's database."""

    side: Side
    outbox: tuple[Event, ...] = ()
    owed: tuple[Event, ...] = ()
    """Decided, but not yet in the outbox: only where that is a second transaction."""


class State(NamedTuple):
    first: First
    relays: tuple[Relay, ...]
    log: tuple[Event, ...]
    second: Side
    commands: tuple[Event, ...]
    mended: bool
    attempts: int
    luck: Luck
    first_backup: First | None
    second_backup: Side | None


Steps = Iterator[tuple[str, State]]


@dataclass(kw_only=True)
class EndToEnd:
    """The machine. `guilty` are events that make a handler raise until the operator has mended it."""

    rules: Rules
    source: Sequence[Event]
    commands: Sequence[Event] = ()
    guilty_first: frozenset[str] = frozenset()
    guilty_second: frozenset[str] = frozenset()
    relays: int = 1
    luck: Luck = field(default_factory=Luck)

    @property
    def start(self) -> State:
        relays, commands = tuple(Relay() for _ in range(self.relays)), tuple(self.commands)
        return State(First(Side()), relays, (), Side(), commands, False, 0, self.luck, None, None)

    def steps(self, state: State) -> Steps:
        yield from self._side_steps(state, "first", state.first.side, self.source, self.guilty_first, self._decided)
        yield from self._side_steps(state, "second", state.second, state.log, self.guilty_second, _followed)
        for command in state.commands:
            side = state.first.side._replace(effects=(*state.first.side.effects, command))
            left = tuple(other for other in state.commands if other != command)
            yield f"command {command.name}", self._decided(state._replace(commands=left), side, [command])
        if state.first.owed:
            owed = state.first._replace(outbox=state.first.outbox + state.first.owed, owed=())
            yield "the first service writes its outbox", state._replace(first=owed)
            if state.luck.crashes:
                luck = state.luck._replace(crashes=state.luck.crashes - 1)
                yield "the first service crashes", state._replace(first=state.first._replace(owed=()), luck=luck)
        for number in range(self.relays):
            yield from self._relay_steps(state, number)
        yield from self._world_steps(state)

    # -- a service

    def _side_steps(
        self,
        state: State,
        name: str,
        side: Side,
        log: Sequence[Event],
        guilty: frozenset[str],
        commit: Callable[[State, Side, Sequence[Event]], State],
    ) -> Steps:
        guilty = frozenset() if state.mended else guilty
        for end in (side.position + 1, side.position + 2):
            if end <= len(log):
                after, decided = self._taken(
                    side, log, end, guilty, uses_inbox=name == "first" or self.rules.reader_inbox
                )
                yield f"the {name} service takes up to {end}", commit(state, after, decided)
        heads = {event.member: event for event in reversed(side.queue)}
        for head in heads.values():
            if head.name not in guilty:
                queue = list(side.queue)
                queue.remove(head)
                after = side._replace(queue=tuple(queue), effects=(*side.effects, head))
                yield (
                    f"the {name} service replays {head.name}",
                    commit(state, after, [head] if self.rules.replay_publishes else []),
                )

    def _taken(
        self, side: Side, log: Sequence[Event], end: int, guilty: frozenset[str], *, uses_inbox: bool
    ) -> tuple[Side, list[Event]]:
        inbox, queue, effects = set(side.inbox), list(side.queue), list(side.effects)
        decided: list[Event] = []
        for event in log[side.position : end]:
            if uses_inbox and event in inbox:
                continue
            inbox.add(event)
            if event.name in guilty or any(other.member == event.member for other in queue):
                queue.append(event)
            else:
                effects.append(event)
                decided.append(event)
        return Side(end, frozenset(inbox), tuple(queue), tuple(effects)), decided

    def _decided(self, state: State, side: Side, decided: Sequence[Event]) -> State:
        """The first service commits, with what it decided in the outbox."""
        attempts = state.attempts
        rows: list[Event] = []
        for event in decided:
            rows.append(event if self.rules.derived_ids else event._replace(attempt=attempts))
            attempts += 0 if self.rules.derived_ids else 1
        first = state.first._replace(side=side)
        if self.rules.outbox_in_transaction:
            first = first._replace(outbox=first.outbox + tuple(rows))
        else:
            first = first._replace(owed=first.owed + tuple(rows))
        return state._replace(first=first, attempts=attempts)

    # -- a relay

    def _relay_steps(self, state: State, number: int) -> Steps:
        relay, name = state.relays[number], f"relay {number + 1}"

        def then(after: Relay, before: State = state) -> State:
            return before._replace(relays=(*before.relays[:number], after, *before.relays[number + 1 :]))

        for place, event in enumerate(relay.flying):
            left = relay._replace(flying=relay.flying[:place] + relay.flying[place + 1 :])
            yield f"late, {event.name} arrives", then(left, state._replace(log=(*state.log, event)))
        if not relay.todo or relay.stopped:
            outbox = tuple(event for event in state.first.outbox if event not in relay.acknowledged)
            if outbox or relay.acknowledged:
                before = state._replace(first=state.first._replace(outbox=outbox))
                yield (
                    f"{name} deletes what was acknowledged and reads",
                    then(Relay(outbox, flying=relay.flying), before),
                )
            return
        event, rest = relay.todo[0], relay.todo[1:]
        sent = relay._replace(todo=rest, acknowledged=relay.acknowledged | {event})
        yield f"{name} sends {event.name}", then(sent, state._replace(log=(*state.log, event)))
        if state.luck.failures:
            worse = state._replace(luck=state.luck._replace(failures=state.luck.failures - 1))
            failed = relay._replace(todo=rest, stopped=self.rules.relay_stops)
            arrived = worse._replace(log=(*state.log, event))
            yield f"{name} sends {event.name}, the answer is lost", then(failed, arrived)
            flying = failed._replace(flying=(*relay.flying, event))
            yield f"{name} gives {event.name} up, still on its way", then(flying, worse)
        if state.luck.crashes:
            worse = state._replace(luck=state.luck._replace(crashes=state.luck.crashes - 1))
            yield f"{name} crashes", then(Relay(flying=relay.flying), worse)

    # -- the world

    def _world_steps(self, state: State) -> Steps:
        if not state.mended and (state.first.side.queue or state.second.queue):
            yield "the operator mends both", state._replace(mended=True)
        luck = state.luck
        if luck.first_restores and state.first_backup is None:
            yield "a backup of the first service", state._replace(first_backup=state.first)
        if luck.first_restores and state.first_backup not in (None, state.first):
            assert state.first_backup is not None
            less = luck._replace(first_restores=luck.first_restores - 1)
            yield "the first service is restored", state._replace(first=state.first_backup, luck=less)
        if luck.second_restores and state.second_backup is None:
            yield "a backup of the second service", state._replace(second_backup=state.second)
        if luck.second_restores and state.second_backup not in (None, state.second):
            assert state.second_backup is not None
            less = luck._replace(second_restores=luck.second_restores - 1)
            yield "the second service is restored", state._replace(second=state.second_backup, luck=less)

    # -- what must hold

    def broken(self, state: State) -> str | None:
        for name, side, log in (("first", state.first.side, self.source), ("second", state.second, state.log)):
            names = [event.name for event in side.effects]
            if len(names) != len(set(names)):
                return f"once: an event took effect twice in the {name} service"
            known = {event.name for event in (*side.effects, *side.queue)}
            for event in log[: side.position]:
                if event.name not in known:
                    return f"lost: {event.name} in the {name} service"
        return self._out_of_order(state) or self._unpublished(state)

    def _out_of_order(self, state: State) -> str | None:
        """The second service follows each member's decisions in the order in which the first made them."""
        if state.first_backup is not None:
            return None  # commands that were lost with the restored database made an order that nobody knows
        for member in {event.member for event in state.second.effects}:
            decided = [event.name for event in state.first.side.effects if event.member == member]
            followed = [event.name for event in state.second.effects if event.member == member]
            if followed != decided[: len(followed)]:
                return f"order: {member} had {decided}, the second service has {followed}"
        return None

    def _unpublished(self, state: State) -> str | None:
        names = {event.name for event in (*state.log, *state.first.outbox, *state.first.owed)}
        for event in state.first.side.effects:
            if event.name not in names:
                return f"lost: {event.name} was decided and is neither in the outbox nor in the log"
        return None

    def is_good_end(self, state: State) -> bool:
        followed = {event.name for event in state.second.effects}
        wanted = {event.name for event in (*self.source, *self.commands)}
        quiet = not state.first.outbox and not state.first.side.queue and not state.second.queue
        return quiet and wanted <= followed


def _followed(state: State, side: Side, decided: Sequence[Event]) -> State:
    del decided
    return state._replace(second=side)
