"""The protocol with one of its sentences undone, in a victim's process only.

A mutant says what is wrong about it, which sentences of docs/protocol.md it undoes, the faults that bring it to light
and the areas of the oracle of which at least one must find it.
"""

import sys
from collections.abc import Sequence

from tests.chaos.aims import COMMITTED_LATE, KAFKA_AWAY, KILLED_COMMITTING, NO_RELAY, ZOMBIE, kill_at
from tests.chaos.faults import Fault, due_in_outage
from tests.chaos.undoing import Edit, Mutant, apply_edit

CONSUMING, TAKING, RELAY, OUTBOX, POSITIONS = (
    "shared.consuming", "shared.taking", "shared.relay", "shared.outbox", "shared.positions",
)  # fmt: skip
AT_FAULT = 70
"""A seed whose short stream holds events whose key or time is at fault."""
FENCE_GONE = Edit(
    CONSUMING,
    "_fresh",
    "fresh += [arrival for arrival in chunk.arrivals if arrival.record.offset >= next_offset]",
    "fresh += chunk.arrivals",
)

LIST: Sequence[Mutant] = (
    Mutant(
        "no-inbox",
        "the inbox is not asked: what was taken is taken again",
        (16,),
        (Edit(CONSUMING, "_sort_all", "taken_before = inbox.known.get(arrival.identity)", "taken_before = None"),),
        (),
        ("plans", "counts", "events"),
    ),
    Mutant(
        "no-first-copy",
        "both copies in one chunk count",
        (18,),
        (
            Edit(
                CONSUMING,
                "_sort_all",
                "if taken_before is None and first[arrival.identity] is not arrival:",
                "if False:",
            ),
        ),
        (Fault(3, "server", server="postgres", hold_s=3.0),),
        ("plans", "counts", "events"),
        seconds=30.0,
    ),
    Mutant(
        "position-before-save",
        "the position is committed before what was decided is saved",
        (12, 15),
        (
            Edit(
                TAKING,
                "ChunkTaker._try",
                "began = monotonic()",
                "began = monotonic()\n"
                "    from shared.positions import Counts, advancing_positions\n"
                "    from shared.writing import write\n"
                "    group, topic = self.subscription.group, self.subscription.topic\n"
                "    async with self.database.acquire(timeout=30) as early:\n"
                "        ends = [(chunk.partition, chunk.end, Counts()) for chunk in chunks]\n"
                "        await write(early, [advancing_positions(group, topic, ends)])",
            ),
            FENCE_GONE,
        ),
        KILLED_COMMITTING,
        ("plans", "events", "timeline", "books", "held"),
    ),
    Mutant(
        "position-goes-back",
        "a chunk may move the position back",
        (14, 13),
        (Edit(POSITIONS, "ADVANCE", "greatest(p.next_offset, a.next_offset)", "a.next_offset"),),
        ZOMBIE,
        ("counts", "books", "rest"),
        seconds=24.0,
    ),
    Mutant(
        "no-fence",
        "a chunk takes what lies below the stored position",
        (13,),
        (FENCE_GONE,),
        ZOMBIE,
        ("counts", "books"),
        seconds=20.0,
    ),
    Mutant(
        "failed-chunk-passed-over",
        "a chunk that the world made fail is passed over, and the next is not asked where it begins",
        (12, 15),
        (
            Edit(
                TAKING,
                "ChunkTaker._take_alone",
                'log.warning("a chunk is tried again", group=self.subscription.group, error=type(error).__name__)',
                "return None",
            ),
            Edit("shared.sharing", "SharedTransactions._run", "is_taken = False", "is_taken = True"),
            Edit(CONSUMING, "_fresh", "if chunk.base > next_offset:", "if False:"),
        ),
        tuple(Fault(at, "cut", service) for at in (2.0, 4.0, 6.0, 8.0, 10.0) for service in ("plans", "messaging")),
        ("plans", "events", "timeline", "books", "held"),
    ),
    Mutant(
        "delete-before-ack",
        "an outbox row is deleted before Kafka has acknowledged it",
        (55,),
        (
            Edit(
                RELAY,
                "Outflow._round",
                "promising = self._hand_over(rows, away)",
                "await self._database.execute(\n"
                '        DELETE, *zip(*((row["outbox_id"], row["created_at"]) for row in rows)), timeout=10\n'
                "    )\n"
                "    promising = self._hand_over(rows, away)",
            ),
        ),
        KAFKA_AWAY,
        ("events", "alerts", "rest"),
    ),
    Mutant(
        "outbox-cursor",
        "the relay remembers how far it has read, and reads on from there",
        (54,),
        (
            Edit(
                RELAY,
                "Outflow._read",
                "return rows",
                'since = self.__dict__.get("since", 0)\n'
                '    rows = [row for row in rows if row["outbox_id"] > since]\n'
                '    read = [row["outbox_id"] for row in rows if row["topic"] in self._partitions]\n'
                '    self.__dict__["since"] = max([since, *read])\n'
                "    return rows",
            ),
        ),
        COMMITTED_LATE,
        ("events", "alerts", "rest", "outbox"),
    ),
    Mutant(
        "newest-first",
        "the relay reads the newest rows first",
        (54, 57),
        (Edit(RELAY, "READ", "{most} order by outbox_id", "{most} order by outbox_id desc"),),
        (Fault(3, "slow-table", "plans", table="outbox", hold_s=3.0), Fault(8, "server", server="kafka", hold_s=1.0)),
        ("order", "plans", "alerts"),
        seconds=20.0,
    ),
    Mutant(
        "random-ids",
        "an event gets an id of its own each time it is decided",
        (63,),
        (
            Edit(
                OUTBOX,
                "finish_events",
                'event_id = derive_id(f"{service} {place[0]} {cause.source} {cause.id} {ordinal}")',
                "event_id = str(__import__('uuid').uuid4())",
            ),
        ),
        (),
        ("events",),
    ),
    Mutant(
        "no-parking",
        "what comes behind a dead letter is taken all the same",
        (27,),
        (
            Edit(
                CONSUMING,
                "_sort_all",
                "blocked = set(inbox.blocked)",
                "blocked = set()",
            ),
        ),
        (),
        ("held", "plans"),
    ),
    Mutant(
        "unreadable-goes-by",
        "an unreadable record whose key can be read does not park its member",
        (26,),
        (Edit("shared.arrivals", "read_arrivals", "error.reason in REPAIRABLE", "False"),),
        (),
        ("held", "plans"),
    ),
    Mutant(
        "rest-of-chunk-runs",
        "what comes behind a guilty or a waiting event in its chunk is not kept",
        (27, 47),
        (
            Edit(
                CONSUMING,
                "_apply_outcomes",
                'work.hold(arrival, "parked", "behind", None, blocks=True)',
                "work.count(arrival).new += 1",
            ),
        ),
        (Fault(3, "server", server="postgres", hold_s=3.0),),
        ("plans", "events", "counts"),
    ),
    Mutant(
        "unparked-early",
        "a queue counts as empty as soon as only parked events are left in it",
        (29,),
        (
            Edit(
                "shared.inbox",
                "TAKE",
                "where blocks and member_id = any($2::uuid[]) and consumer_group = $3 and topic = $4",
                "where blocks and member_id = any($2::uuid[]) and consumer_group = $3 and topic = $4\n"
                "            and state = 'waiting'",
            ),
        ),
        (),
        ("held", "plans"),
    ),
    Mutant(
        "replay-publishes-nothing",
        "what a replay decides does not go to the outbox",
        (66, 30),
        (
            Edit(
                "shared.replaying",
                "drain_queues",
                "connection, isolated.outcomes, service=service",
                "connection, type(isolated.outcomes)(), service=service",
            ),
        ),
        (),
        ("events", "alerts"),
    ),
    Mutant(
        "queue-read-before-release",
        "what waits is not tried in the transaction that brings what it needs",
        (37,),
        (Edit(CONSUMING, "take_chunks", "if inbox.awaited:", "if False:"),),
        (),
        ("held", "events", "plans"),
    ),
    Mutant(
        "other-body-is-a-repeat",
        "another body under a known identity passes for a repeat",
        (21,),
        (Edit(CONSUMING, "_sort", "if taken_before == arrival.digest:", "if taken_before is not None:"),),
        (),
        ("held", "counts"),
        seconds=60.0,
    ),
    Mutant(
        "no-member-lock",
        "nobody locks members",
        (25, 29, 67),
        (
            Edit("shared.member_locks", "lock_members", "if wanted:", "if False:"),
            Edit(POSITIONS, "lock_positions", "list(members)", "[]"),
        ),
        (),
        ("held", "plans", "events", "order"),
        seconds=30.0,
    ),
    Mutant(
        "parked-not-in-inbox",
        "the inbox does not know what is parked",
        (17,),
        (
            Edit(
                CONSUMING,
                "take_chunks",
                "await record_outcomes(connection, work.outcomes)",
                "await record_outcomes(connection, work.outcomes)\n"
                "    await give_back(\n"
                '        connection, [i for i, (state, _) in work.outcomes.items() if state == "parked"]\n'
                "    )",
            ),
        ),
        (),
        ("held", "counts"),
    ),
    Mutant(
        "fault-takes-identity",
        "an event whose key or time is at fault takes the identity of the one published rightly",
        (22,),
        (Edit("shared.arrivals", "read_arrivals", "if arrival.fault is not None:", "if False:"),),
        (),
        ("plans", "counts"),
        seed=AT_FAULT,
    ),
    Mutant(
        "ids-kept-ready",
        "each session keeps some ids of outbox rows ready",
        (53,),
        (
            Edit(
                "shared.migrating",
                "migrate",
                "return pending",
                'await connection.execute("alter sequence delivery.outbox_outbox_id_seq cache 40")\n'
                "        return pending",
            ),
        ),
        NO_RELAY,
        ("order", "plans", "alerts"),
        seconds=24.0,
    ),
    Mutant(
        "ack-not-awaited",
        "the next batch is sent, and the rows of the last are deleted, without waiting for its acknowledgement",
        (55, 57),
        (
            Edit(
                "shared.sending",
                "Sender.send",
                "await self._deliver(main, place, batch)",
                "asyncio.ensure_future(self._deliver(main, place, batch))",
            ),
        ),
        (),
        ("alerts", "reminders"),
        evening=due_in_outage(14),
    ),
    Mutant(
        "timers-by-statement",
        "a timer's deletion is committed before its effect",
        (73,),
        (
            Edit("shared.service", "Service._run_due", "async with connection.transaction():", "if True:"),
            Edit(
                "shared.timers",
                "claim_timers",
                "    claimed = [",
                '    gone = "delete from delivery.timers where ctid = any($1::tid[])"\n'
                '    await connection.execute(gone, [row["ctid"] for row in rows])\n'
                "    claimed = [",
            ),
        ),
        (),
        ("reminders", "alerts", "timers"),
        evening=(kill_at(14, "messaging", "timers-claimed"), kill_at(14, "notifications", "timers-claimed")),
    ),
    Mutant(
        "moot-timers-stay",
        "a timer that became moot is not cancelled",
        (72,),
        (Edit("shared.timers", "cancelling_timers", "if keys else None", "if False else None"),),
        (),
        ("timers",),
        seconds=30.0,
    ),
    Mutant(
        "safety-skips-faults",
        "a safety group does not look at events at fault",
        (44,),
        (
            Edit(
                CONSUMING,
                "_sort",
                "if fault is not None and not (subscription.stateless and fault.is_harmless):",
                "if fault is not None:",
            ),
        ),
        (),
        ("held", "counts"),
        seed=AT_FAULT,
    ),
    Mutant(
        "safety-skips-invalid",
        "a safety group does not look at the answers of what is no valid event",
        (44,),
        (Edit(TAKING, "ChunkTaker._read", "subscription.loosely", "None"),),
        (),
        ("held", "events"),
    ),
)
MUTANTS = {mutant.name: mutant for mutant in LIST}


def apply_mutant(name: str) -> None:
    """In this process, for good. DoesNotApply, which ends it."""
    mutant = MUTANTS[name]
    for edit in mutant.edits:
        apply_edit(edit)
    print(f"mutant: {mutant.undone}", file=sys.stderr, flush=True)
