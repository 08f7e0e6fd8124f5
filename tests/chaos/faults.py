"""What is done to the services and servers of a run, and when. A pure function of the seed and the length."""

import random
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

Service = Literal["enrollment", "plans", "messaging", "notifications"]
SERVICES: Final[tuple[Service, ...]] = get_args(Service)
CONSUMERS: Final[tuple[Service, ...]] = ("plans", "messaging", "notifications")
"""Those that read topics."""
Server = Literal["kafka", "postgres", "valkey", "all"]
Point = Literal[
    "before-take", "before-commit", "after-commit", "before-publish", "after-publish", "after-delete",
    "timers-claimed", "before-timers-commit", "revoked", "assigned",
    "accepted", "command-undone", "command-done",
]  # fmt: skip
"""Named places in a service process at which it can be hurt (tests/chaos/points.py)."""
FaultKind = Literal[
    "kill-at", "kill", "stop-at", "stop", "kill-in-rebalance", "scale", "server", "cut", "slow-table", "deploy",
    "clock", "restore", "due-in-outage", "slow-disk", "no-relay", "frozen", "vanish", "read-only", "crowded",
    "cancelled", "unheard",
]  # fmt: skip
Table = Literal["outbox", "inbox", "positions", "member_locks", "held_events", "timers"]
"""Of those that delivery rests on in each service's database."""
KILL_POINTS: tuple[Point, ...] = (
    "before-commit", "after-commit", "before-publish", "after-publish", "after-delete", "before-take",
    "accepted", "command-undone", "command-done",
)  # fmt: skip
ONLY_IN: dict[Point, Service] = {"accepted": "plans", "command-undone": "messaging", "command-done": "messaging"}
"""Points that one service comes to, or most."""
COMMAND_POINTS: tuple[Point, ...] = ("command-undone", "command-done")
SELDOM_MAX = 2
"""Plans is sent few commands: so many at most pass before it is killed at one."""
CONSUMING_POINTS: tuple[Point, ...] = ("before-commit", "after-commit", "before-take")
SPACING_S = {
    "kill-at": 3.5,
    "kill": 3.5,
    "stop-at": 9.0,
    "stop": 9.0,
    "kill-in-rebalance": 6.0,
    "server": 6.0,
    "restore": 9.0,
    "due-in-outage": 9.0,
    "frozen": 9.0,
    "scale": 9.0,
}
SPACING_REST_S = 2.5
HOLDS_S: dict[FaultKind, tuple[float, float]] = {
    "stop": (7.5, 10),
    "slow-table": (1, 4),
    "no-relay": (6, 9),
    "frozen": (7, 14),
    "vanish": (27, 32),
    "read-only": (2, 6),
    "crowded": (2, 6),
    "cancelled": (2, 6),
    "unheard": (2, 6),
    "scale": (2, 5),
}
"""How long at least and at most."""
LONG_S, LONG_KINDS = 120.0, frozenset[FaultKind]({"restore", "vanish"})
"""In a run as long as this a database is set back, too, and one goes without a word."""
UNACKNOWLEDGED: Point = "after-delete"
"""Where a relay does not come to while Kafka is away: what it has sent is in its memory, and in the outbox."""
ANSWERED_WITHIN_S = 660.0
"""By so much later every alert is due that is to be answered as in an emergency (alert_rules.yaml)."""
MOVED_MAX_S = 2.5 * 3600
"""So far all faults together move clinic time for alerts to be due: the evening must not come before its time."""


@dataclass(frozen=True)
class Fault:
    """`at_s`: seconds after the stream begins."""

    at_s: float
    kind: FaultKind
    service: Service | None = None
    point: Point | None = None
    nth: int = 1
    """How often the point is passed first."""
    server: Server | None = None
    table: Table | None = None
    hold_s: float = 0.0
    """How long it lasts: a server is away, a disk slow, a process stopped, a lock held."""
    by_s: float = 0.0
    """How far a clock is moved."""

    def __str__(self) -> str:
        named = (self.service, self.server, self.table, f"at {self.point} {self.nth}" if self.point else None)
        lasts = f"for {self.hold_s:.1f} s" if self.hold_s else None
        by = f"by {self.by_s:+.0f} s" if self.by_s else None
        return f"{self.at_s:5.1f} s " + " ".join(filter(None, (self.kind, *named, lasts, by)))


def due_in_outage(at_s: float) -> tuple[Fault, Fault]:
    """Of the evening, when there is most to publish that does not come from Kafka."""
    return (
        Fault(at_s, "due-in-outage", "messaging", UNACKNOWLEDGED),
        Fault(at_s, "due-in-outage", "notifications", UNACKNOWLEDGED),
    )


def draw_faults(seed: int, *, seconds: float) -> list[Fault]:
    """Each kind in turn, in an order of the seed's own, until the time is over."""
    chance = random.Random(f"{seed} faults")
    faults: list[Fault] = []
    deck: list[FaultKind] = []
    kinds = [kind for kind in get_args(FaultKind) if kind not in LONG_KINDS or seconds >= LONG_S]
    far_away = random.Random(f"{seed} line").choice(SERVICES)  # one of them: a line costs each byte on it a turn
    moved_s = 0.0
    at = 1.0 + chance.random()
    while at < seconds:
        if not deck:
            deck = [*kinds, "kill-at", "kill-at", "kill-at", "server", "server"]
            chance.shuffle(deck)
        fault = _draw(chance, at, deck.pop())
        if fault.kind == "due-in-outage":
            fault = replace(fault, by_s=min(ANSWERED_WITHIN_S, MOVED_MAX_S - moved_s))
            moved_s += fault.by_s
        if fault.kind == "vanish":
            fault = replace(fault, service=far_away)
        faults.append(fault)
        at += SPACING_S.get(fault.kind, SPACING_REST_S) * chance.uniform(0.7, 1.3)
    return faults


def _draw(chance: random.Random, at: float, kind: FaultKind) -> Fault:
    service = chance.choice(CONSUMERS if kind in ("stop-at", "kill-in-rebalance", "scale") else SERVICES)
    match kind:
        case "kill-at":
            return _draw_kill_at(chance, at, service)
        case "stop-at":
            point: Point = chance.choice(("before-take", "before-commit"))
            return Fault(at, kind, service, point, chance.randint(1, 3), hold_s=chance.uniform(8, 10))
        case "slow-table":
            return Fault(at, kind, service, table=chance.choice(get_args(Table)), hold_s=chance.uniform(*HOLDS_S[kind]))
        case "stop" | "no-relay" | "scale" | "vanish" | "read-only" | "crowded" | "cancelled" | "unheard":
            return Fault(at, kind, service, hold_s=chance.uniform(*HOLDS_S[kind]))
        case "kill-in-rebalance":
            return Fault(at, kind, service, chance.choice(("revoked", "assigned")))
        case "server":
            server: Server = chance.choice(("kafka", "postgres", "valkey", "all"))
            return Fault(at, kind, server=server, hold_s=chance.uniform(0.2, 3))
        case "restore":
            # What others decide again reaches people twice, or was asked for over HTTP and is in no log.
            return Fault(at, kind, "plans", hold_s=chance.uniform(4, 9))
        case "frozen":
            stands: Server = chance.choice(("kafka", "postgres", "valkey", "all"))
            return Fault(at, kind, server=stands, hold_s=chance.uniform(*HOLDS_S[kind]))
        case "slow-disk":
            return Fault(at, kind, server="postgres", hold_s=chance.uniform(3, 6))
        case "due-in-outage":
            return Fault(at, kind, "messaging", UNACKNOWLEDGED)
        case "clock":
            # Each whole machine's clock, or clinic time for everybody.
            return Fault(at, kind, chance.choice((service, None)), by_s=chance.choice((-90.0, -30.0, 45.0, 120.0)))
        case _:
            return Fault(at, kind, service)


def _draw_kill_at(chance: random.Random, at: float, service: Service) -> Fault:
    place = chance.choice(KILL_POINTS)
    if place not in ONLY_IN and service not in CONSUMERS and place in CONSUMING_POINTS:
        service = chance.choice(CONSUMERS)
    nth = chance.randint(1, 6)
    if place in COMMAND_POINTS and service == "plans":
        return Fault(at, "kill-at", service, place, min(nth, SELDOM_MAX))
    return Fault(at, "kill-at", ONLY_IN.get(place, service), place, nth)
