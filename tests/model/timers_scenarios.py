"""What timers are checked with."""

from collections.abc import Callable
from dataclasses import replace

from tests.model.cases import Breaks, Holds
from tests.model.timers import Luck, Plan, Rules, Timers


def answered(rules: Rules) -> Timers:
    """An escalation that an answer makes moot, beside another change of the member; two replicas."""
    plans = [Plan("set", "ann", "escalate"), Plan("answer", "ann", "escalate"), Plan("touch", "ann")]
    return Timers(rules=rules, plans=plans, luck=Luck(crashes=1, failures=1))


def two_members(rules: Rules) -> Timers:
    """Two members' timers, two replicas."""
    plans = [
        Plan("set", "ann", "escalate"),
        Plan("set", "ann", "remind"),
        Plan("set", "bob", "lapse"),
        Plan("answer", "ann", "escalate"),
    ]
    return Timers(rules=rules, plans=plans, luck=Luck(crashes=1, failures=1))


def held_for_ever(rules: Rules) -> Timers:
    """A process is stopped while it holds one member; the other's timer is due."""
    plans = [Plan("set", "ann", "remind"), Plan("set", "bob", "lapse"), Plan("touch", "ann")]
    return Timers(rules=rules, plans=plans, luck=Luck(stops=1, crashes=1), wanted=frozenset({"lapse"}))


def safety(rules: Rules) -> Timers:
    """A safety group sets and moves timers without the member's lock."""
    plans = [
        Plan("flag", "ann", "look again"),
        Plan("move", "ann", "look again"),
        Plan("flag", "bob", "look at bob"),
        Plan("answer", "bob", "look at bob"),
    ]
    return Timers(rules=rules, plans=plans, luck=Luck(crashes=1, failures=1))


def alone(rules: Rules) -> Timers:
    """Nobody ever locks a member of whom a safety group has set a timer."""
    return Timers(rules=rules, plans=[Plan("flag", "ann", "look again")])


def holds(name: str, build: Callable[[Rules], Timers], states: int) -> Holds:
    return Holds(name=f"timers: {name}", build=lambda: build(Rules()), states=states)


def breaks(flag: str, invariant: str, build: Callable[[Rules], Timers]) -> Breaks:
    return Breaks(rule=f"timers.{flag}", invariant=invariant, build=lambda: build(replace(Rules(), **{flag: False})))


HOLDS = [
    holds("one is answered", answered, 230),
    holds("two members", two_members, 6_300),
    holds("a safety group's timers", safety, 3_300),
    holds("a member held for ever", held_for_ever, 830),
]
BREAKS = [
    breaks("claim_locks_members", "stale", answered),
    breaks("claim_skips_locked", "trap", held_for_ever),
    breaks("taken_after_lock", "moot", answered),
    breaks("moot_in_transaction", "moot", answered),
    breaks("run_in_one_transaction", "once", answered),
    breaks("failed_kept", "lost", answered),
    breaks("claim_adds_lock_row", "trap", alone),
    breaks("rows_locked", "early", safety),
]
DEEP = [
    holds("two members, three replicas", lambda rules: replace(two_members(rules), runners=3), 28_000),
    holds("two members, more mishaps", lambda rules: replace(two_members(rules), luck=Luck(2, 2)), 14_000),
]
