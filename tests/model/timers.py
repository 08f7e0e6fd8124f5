"""Timers as a machine: transactions that set them or make them moot, beside replicas that run what is due."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The protocol of timers, a flag a rule."""

    claim_locks_members: bool = True
    """Whoever runs timers locks their members first, as every writer does."""
    claim_skips_locked: bool = True
    """... and passes over members that somebody else holds."""
    taken_after_lock: bool = True
    """The rows are read and locked in a statement after those locks."""
    moot_in_transaction: bool = True
    """A timer is deleted in the transaction that makes it moot."""
    run_in_one_transaction: bool = True
    """A timer's effect and the deletion of its row are one transaction."""
    failed_kept: bool = True
    """A timer whose handler raises stays, to be tried again."""
    claim_adds_lock_row: bool = True
    """A member whom nobody has locked before gets a lock row from the claim: a safety group sets timers without it."""
    rows_locked: bool = True
    """Rows are locked, too, before it is known what is due: a safety group moves timers without the member's lock."""


class Plan(NamedTuple):
    """A transaction to come: it sets a timer, answers what a timer asks about, or is about something else. A safety
    group takes no lock: it `flags`, which sets a timer, and `moves` one to a time that never comes."""

    does: Literal["set", "answer", "touch", "flag", "move"]
    member: str
    timer: str = ""


class Writer(NamedTuple):
    doing: str = "idle"
    saw: int = 0
    """How often the member had changed when it read them."""


class Runner(NamedTuple):
    doing: str = "idle"
    found: tuple[str, ...] = ()
    """Members that have something due, or whose rows it holds."""
    timers: tuple[str, ...] = ()
    saw: tuple[int, ...] = ()


class Luck(NamedTuple):
    crashes: int = 0
    failures: int = 0
    stops: int = 0


class Books(NamedTuple):
    timers: frozenset[str]
    later: frozenset[str]
    """Those that are not due any more."""
    answered: frozenset[str]
    ran: tuple[str, ...]
    changes: tuple[int, ...]
    """How often each member was changed."""
    lock_rows: frozenset[str]


class State(NamedTuple):
    books: Books
    writers: tuple[Writer, ...]
    runners: tuple[Runner, ...]
    luck: Luck
    wrong: str
    """An invariant that only a step can break, as `name: detail`."""


Steps = Iterator[tuple[str, State]]


@dataclass(kw_only=True)
class Timers:
    """The machine. Everything that is set is due at once: clinic time may stand anywhere."""

    rules: Rules
    plans: Sequence[Plan]
    runners: int = 2
    luck: Luck = field(default_factory=Luck)
    wanted: frozenset[str] | None = None
    """Timers that must have run at a good end; None: all run or answered, and every plan carried out."""

    def __post_init__(self) -> None:
        self._members = sorted({plan.member for plan in self.plans})
        self._member_of = {plan.timer: plan.member for plan in self.plans if plan.timer}

    @property
    def start(self) -> State:
        books = Books(frozenset(), frozenset(), frozenset(), (), (0,) * len(self._members), frozenset())
        writers, runners = tuple(Writer() for _ in self.plans), tuple(Runner() for _ in range(self.runners))
        return State(books, writers, runners, self.luck, "")

    def steps(self, state: State) -> Steps:
        for number in range(len(self.plans)):
            yield from self._writer_steps(state, number)
        for number in range(self.runners):
            yield from self._runner_steps(state, number)

    def broken(self, state: State) -> str | None:
        books = state.books
        if state.wrong:
            return state.wrong
        if len(books.ran) != len(set(books.ran)):
            return "once: a timer ran twice"
        for plan, writer in zip(self.plans, state.writers, strict=True):
            was_set = plan.does in ("set", "flag") and writer.doing == "done"
            if was_set and plan.timer not in books.timers | books.answered | set(books.ran):
                return f"lost: {plan.timer} was set, and neither ran nor became moot"
        return None

    def is_good_end(self, state: State) -> bool:
        books = state.books
        if self.wanted is not None:
            return self.wanted <= set(books.ran)
        carried_out = all(writer.doing == "done" for writer in state.writers)
        return carried_out and books.timers <= books.later

    # -- locks

    def _held(self, state: State) -> set[str]:
        held = {
            plan.member
            for plan, writer in zip(self.plans, state.writers, strict=True)
            if writer.doing in ("locked", "stopped") and plan.does not in ("flag", "move")
        }
        if self.rules.claim_locks_members:
            held |= {m for runner in state.runners if runner.doing == "locked" for m in runner.found}
        return held

    def _row_is_held(self, state: State, timer: str, but: int = -1) -> bool:
        """Whether a runner has deleted this row and not yet committed."""
        return any(
            number != but and runner.doing == "locked" and timer in runner.timers and self.rules.taken_after_lock
            for number, runner in enumerate(state.runners)
        )

    def _moving(self, state: State) -> set[str]:
        """Timers whose rows somebody holds who moves them."""
        pairs = zip(self.plans, state.writers, strict=True)
        return {plan.timer for plan, writer in pairs if plan.does == "move" and writer.doing == "locked"}

    # -- whoever sets and answers

    def _writer_steps(self, state: State, number: int) -> Steps:
        plan, writer, books = self.plans[number], state.writers[number], state.books
        name = f"{plan.does} {plan.timer or plan.member}"
        at = self._members.index(plan.member)
        was_set = any(p.does in ("set", "flag") and p.timer == plan.timer and w.doing == "done"
                      for p, w in zip(self.plans, state.writers, strict=True))  # fmt: skip
        takes_lock = plan.does not in ("flag", "move")
        is_free = plan.member not in self._held(state) if takes_lock else not self._row_is_held(state, plan.timer)
        if writer.doing == "idle" and (plan.does not in ("answer", "move") or was_set) and is_free:
            rows = books.lock_rows | ({plan.member} if takes_lock else set())
            locked = state._replace(books=books._replace(lock_rows=rows))
            what = plan.member if takes_lock else "at most the timer's row"
            yield f"{name}: locks {what}", _wrote(locked, number, Writer("locked", books.changes[at]))
        if writer.doing == "cancels later":
            gone = books._replace(timers=books.timers - {plan.timer})
            yield f"{name}: deletes the timer at last", _wrote(state._replace(books=gone), number, Writer("done"))
        if writer.doing != "locked":
            return
        if state.luck.stops and plan.does == "touch":
            luck = state.luck._replace(stops=state.luck.stops - 1)
            yield f"{name}: is stopped for ever", _wrote(state._replace(luck=luck), number, Writer("stopped"))
        if plan.does == "answer" and self._row_is_held(state, plan.timer):
            return
        yield f"{name}: commits", self._committed(state, number)

    def _committed(self, state: State, number: int) -> State:
        plan, writer, books = self.plans[number], state.writers[number], state.books
        if plan.does in ("flag", "move"):
            later = books.later | ({plan.timer} if plan.does == "move" else set())
            moved = books._replace(timers=books.timers | {plan.timer}, later=later)
            return _wrote(state._replace(books=moved), number, Writer("done"))
        changes, wrong = self._changed(books, [plan.member], [writer.saw])
        after, doing = books._replace(changes=changes), "done"
        if plan.does == "set":
            after = after._replace(timers=books.timers | {plan.timer})
        elif plan.does == "answer":
            after = after._replace(answered=books.answered | {plan.timer})
            if self.rules.moot_in_transaction:
                after = after._replace(timers=books.timers - {plan.timer})
            else:
                doing = "cancels later"
        return _wrote(state._replace(books=after, wrong=wrong), number, Writer(doing))

    def _changed(self, books: Books, members: Sequence[str], saw: Sequence[int]) -> tuple[tuple[int, ...], str]:
        """The members' changes with one more each, and what is wrong if somebody changed them since they were read."""
        changes, wrong = list(books.changes), ""
        for member, seen in zip(members, saw, strict=True):
            at = self._members.index(member)
            if changes[at] != seen:
                wrong = f"stale: {member} changed between the decision and its commit"
            changes[at] = seen + 1
        return tuple(changes), wrong

    # -- whoever runs timers

    def _runner_steps(self, state: State, number: int) -> Steps:
        runner, books, name = state.runners[number], state.books, f"replica {number + 1}"
        if runner.doing != "idle" and state.luck.crashes:
            luck = state.luck._replace(crashes=state.luck.crashes - 1)
            yield f"{name} crashes", _ran(state._replace(luck=luck), number, Runner())
        due = tuple(sorted(books.timers - books.later))
        if runner.doing == "idle" and due:
            found = tuple(sorted({self._member_of[timer] for timer in due}))
            timers = () if self.rules.taken_after_lock else due
            yield f"{name} finds {', '.join(found)} due", _ran(state, number, Runner("found", found, timers))
        elif runner.doing == "found":
            yield from self._claims(state, number, name)
        elif runner.doing == "locked":
            yield from self._runs(state, number, name)
        elif runner.doing == "deletes later":
            gone = books._replace(timers=books.timers - set(runner.timers))
            yield f"{name} deletes what it ran", _ran(state._replace(books=gone), number, Runner())

    def _claims(self, state: State, number: int, name: str) -> Steps:
        runner, books, rules = state.runners[number], state.books, self.rules
        held = self._held(state) if rules.claim_locks_members else set()
        rows = books.lock_rows | (set(runner.found) if rules.claim_adds_lock_row else set())
        claimed = tuple(member for member in runner.found if member not in held and member in rows)
        if not rules.claim_skips_locked and not held.isdisjoint(runner.found):
            return  # it waits
        passed = self._moving(state) if rules.rows_locked else set()
        timers = runner.timers or tuple(sorted(books.timers - books.later - passed))
        mine = tuple(
            timer
            for timer in timers
            if self._member_of[timer] in claimed and not self._row_is_held(state, timer, but=number)
        )
        if not mine:
            yield f"{name} gets nothing", _ran(state, number, Runner())
            return
        members = tuple(sorted({self._member_of[timer] for timer in mine}))
        saw = tuple(books.changes[self._members.index(member)] for member in members)
        locked = state._replace(books=books._replace(lock_rows=books.lock_rows | set(members)))
        yield (
            f"{name} locks {', '.join(members)} and takes {', '.join(mine)}",
            _ran(locked, number, Runner("locked", members, mine, saw)),
        )

    def _runs(self, state: State, number: int, name: str) -> Steps:
        runner, books, rules = state.runners[number], state.books, self.rules
        if not self._moving(state).isdisjoint(runner.timers):
            return  # deleting waits for whoever moves the row
        changes, wrong = self._changed(books, runner.found, runner.saw)
        early = books.later & set(runner.timers)
        wrong = wrong or (f"early: {', '.join(sorted(early))} ran although it had been moved" if early else "")
        moot = books.answered & set(runner.timers)
        wrong = wrong or (f"moot: {', '.join(sorted(moot))} ran after it had been answered" if moot else "")
        ran = books._replace(ran=books.ran + runner.timers, changes=changes)
        if rules.run_in_one_transaction:
            ran = ran._replace(timers=books.timers - set(runner.timers))
            yield f"{name} commits", _ran(state._replace(books=ran, wrong=wrong), number, Runner())
        else:
            later = Runner("deletes later", (), runner.timers)
            yield f"{name} commits effects alone", _ran(state._replace(books=ran, wrong=wrong), number, later)
        if state.luck.failures:
            less = state._replace(luck=state.luck._replace(failures=state.luck.failures - 1))
            if not rules.failed_kept:
                less = less._replace(books=books._replace(timers=books.timers - set(runner.timers)))
            yield f"{name} keeps what raised for later", _ran(less, number, Runner())


def _wrote(state: State, number: int, writer: Writer) -> State:
    return state._replace(writers=(*state.writers[:number], writer, *state.writers[number + 1 :]))


def _ran(state: State, number: int, runner: Runner) -> State:
    return state._replace(runners=(*state.runners[:number], runner, *state.runners[number + 1 :]))
