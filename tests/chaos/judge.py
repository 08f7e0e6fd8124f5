"""Holds a run against what must have come of its accepted events. The oracle knows the log of what was published, the
pure rules, and nothing of how they are carried out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from deploy.reconciliation import reconcile as reconciliation
from services.messaging.domain.people import CareTeam
from services.messaging.store.alerts import ESCALATION, FOLLOW_UP, SNOOZE, load_member_alerts
from services.messaging.store.conversations import FIRST_RESPONSE
from services.messaging.store.visits import HOLD, MISSED
from services.plans.store.care_plans import load_care_plans
from shared.database import Connection
from shared.events import CloudEvent, MemberEnrolled, MessageSent, SafetyFlagged, SessionCompleted
from tests.chaos.books import NO_KINDS, judge_books
from tests.chaos.clients import Told
from tests.chaos.enrolling import EnrolmentTold
from tests.chaos.enrolling_oracle import EnrollingOracle
from tests.chaos.findings import Derived, Findings, body
from tests.chaos.log import Log, Record, read_log
from tests.chaos.messages_oracle import MessagesOracle
from tests.chaos.messaging_oracle import MessagingOracle, comparable, follow_up_of
from tests.chaos.notifications_oracle import announced, enders_of, judge_ends, reminders_of
from tests.chaos.people import Cast
from tests.chaos.plans_oracle import PlansOracle
from tests.chaos.put_offs import load_put_offs
from tests.chaos.reading import Read, kinds_of, meant_by, read_as, taken_events
from tests.chaos.red_flags import follow_red_flags, triggers_of
from tests.chaos.service_logs import judge_service_logs
from tests.chaos.stream import ACTIVITY, Publication
from tests.chaos.visits_oracle import REMINDER, VisitsOracle
from tests.chaos.ways import match_overrides
from tests.chaos.world import World

NOTIFICATIONS = (
    "select notification_id, topic, about, state, attempts, not_before, cause from notifications"
    " order by notification_id"
)
OURS = ("careloop.plans", "careloop.visits", "careloop.conversations", "careloop.notifications")


@dataclass
class Judge:
    world: World
    cast: Cast
    stream: Sequence[Publication]
    log: Log
    now: datetime
    findings: Findings
    told: Told
    """What clients were told of their commands."""
    enrolled: Sequence[EnrolmentTold]
    """What those were told who walked in."""

    def __post_init__(self) -> None:
        self._kinds = kinds_of(self.stream)

    async def judge(self) -> None:
        self._accepted()
        told = self._first_copies()
        reads = self._read_activity()
        visits = VisitsOracle(self.cast, self.told, told["careloop.visits"], self.now, self.findings)
        visits.judge()
        enrolling = EnrollingOracle(self.cast, self.enrolled, self.findings)
        enrolling.judge(self._told_by_enrollment())
        plans = self._fold(reads, visits, told["careloop.plans"])
        self._compare_events(plans, told)
        messages = MessagesOracle(self.cast, self.told, told["careloop.conversations"], self.findings)
        messages.judge()
        conversations = {e.id: e for e in told["careloop.conversations"] if not isinstance(e, MessageSent)}
        team = CareTeam(pt=self.cast.pt, coach=self.cast.coach)
        async with self.world.connect("messaging") as connection:
            put_offs = await load_put_offs(connection, self.cast)
        alerts = MessagingOracle(team, conversations, self.findings, put_offs=put_offs)
        self._raise(plans, visits, messages, alerts, told)
        await self._look_at_enrollment(enrolling)
        await self._look_at_plans(plans, reads)
        await self._look_at_messaging(alerts, visits, messages, reads)
        await self._look_at_notifications(plans, visits, messages, reads, told)
        report = await reconciliation.reconcile(
            bootstrap=self.world.stage.urls.kafka_bootstrap, namespace=self.world.namespace,
            databases=self.world.databases, clock=self.world.clock, progress=lambda _: None,
        )  # fmt: skip
        for problem in report.problems + [f"{ln.consumer_group} {p}" for ln in report.lines for p in ln.problems]:
            self.findings.add("books", problem)

    # -- the log

    def _accepted(self) -> None:
        """The log holds what was accepted, and nothing else."""
        wanted = {(one.topic, one.key, one.value) for one in self.stream}
        topics = {one.topic for one in self.stream}
        enrolled = {str(person.member_id).encode() for person in self.cast.of("walk-in", "turned-away")}
        there = {
            (topic, record.key, record.value)
            for topic in topics
            for record in self.log[topic]
            if topic == ACTIVITY or record.key not in enrolled
        }
        self.findings.same_all("log", "records that were accepted", wanted, there)

    def _told_by_enrollment(self) -> list[Record]:
        """Of those who walked in."""
        keys = {str(person.member_id).encode() for person in self.cast.of("walk-in", "turned-away")}
        return [
            one for topic in ("careloop.members", "careloop.contacts") for one in self.log[topic] if one.key in keys
        ]

    def _first_copies(self) -> dict[str, list[CloudEvent]]:
        """What the services told, each once; a copy that the relay sent again must be the same."""
        told: dict[str, list[CloudEvent]] = {}
        for topic in OURS:
            first: dict[tuple[str, str], tuple[CloudEvent, bytes | None]] = {}
            for record in self.log[topic]:
                if record.event is None:
                    self.findings.add("events", f"{topic} {record.partition} {record.offset} cannot be read")
                    continue
                ref = (record.event.source, record.event.id)
                event, value = first.setdefault(ref, (record.event, record.value))
                is_again = topic == "careloop.plans" and "plans" in self.world.restored
                if value != record.value and not (is_again and _decided_again(event, record.event)):
                    self.findings.add("events", f"{record.event.type} {record.event.id} was told in two ways")
            told[topic] = [event for event, _ in first.values()]
        return told

    def _read_activity(self) -> dict[str, list[Read]]:
        records, kinds = self.log[ACTIVITY], self._kinds
        return {
            "plans.activity": read_as(records, kinds),
            "plans.safety": read_as(records, kinds, is_safety=True),
            "messaging.activity": read_as(records, kinds),
            "notifications.activity": read_as(records, kinds, wants=lambda e: isinstance(e, SessionCompleted)),
        }

    # -- enrollment

    async def _look_at_enrollment(self, enrolling: EnrollingOracle) -> None:
        async with self.world.connect("enrollment") as connection:
            await enrolling.look_at(connection)
            await self._books(connection, "enrollment", {}, bugs={})

    # -- plans

    def _fold(self, reads: dict[str, list[Read]], visits: VisitsOracle, there: Sequence[CloudEvent]) -> PlansOracle:
        plans = PlansOracle(match_overrides(self.told.overrides, there, self.findings), there)
        for event in taken_events(read_as(self.log["careloop.members"], NO_KINDS)):
            if isinstance(event, MemberEnrolled):
                plans.enrol(event)
        for event in taken_events(reads["plans.activity"]):
            if event.subject in plans.ways:
                plans.take(event)
            else:
                self.findings.add("plans", f"{event.type} {event.id} is of somebody who never enrolled")
        for read in reads["plans.safety"]:
            if read.fate == "taken":
                plans.flag(read.record.event or meant_by(read.record), is_valid=read.record.event is not None)
        plans.finish(self.findings)
        for done in visits.completed():
            plans.visit(done)
        return plans

    def _compare_events(self, plans: PlansOracle, told: dict[str, list[CloudEvent]]) -> None:
        there = {event.id: event for event in told["careloop.plans"]}
        wanted = {one.id: one for one in plans.all_events()}
        self.findings.same_all("events", "careloop.plans", wanted, there)
        for event_id in wanted.keys() & there.keys():
            found = there[event_id]
            if body(wanted[event_id].at(found.time)) != body(found):
                self.findings.add("events", f"{found.type} {event_id} differs from what follows")
        for flagged, expected in ((False, plans.told), (True, plans.flags)):
            seen: dict[UUID, list[str]] = {}
            for event in told["careloop.plans"]:
                if isinstance(event, SafetyFlagged) == flagged and event.id in wanted:
                    seen.setdefault(event.subject, []).append(event.id)
            self._compare_order("careloop.plans", expected, seen)

    def _compare_order(self, topic: str, expected: dict[UUID, list[Derived]], seen: dict[UUID, list[str]]) -> None:
        for member_id, events in expected.items():
            ids, there = [one.id for one in events], seen.get(member_id, [])
            if sorted(ids) == sorted(there) and ids != there:
                self.findings.add("order", f"{topic}: the events of a member are out of order")

    async def _look_at_plans(self, plans: PlansOracle, reads: dict[str, list[Read]]) -> None:
        async with self.world.connect("plans") as connection:
            there = await load_care_plans(connection, member_ids=[person.member_id for person in self.cast.people])
            timers = await _timers(connection, "plan.lapse")
            self.findings.same("plans", "members with a plan", len(plans.ways), len(there))
            for member_id, plan in there.items():
                bare = replace(plan, lapse=None, lapse_timer_s=None)
                possible = plans.ways[member_id].plans if member_id in plans.ways else [None]
                if bare not in possible:
                    self.findings.same("plans", "a member's plan", possible[0], bare)
                due = timers.get(str(member_id))
                due_s = None if due is None else int(due.timestamp())
                self.findings.same("timers", "a lapse timer", plan.lapse_timer_s, due_s)
                if (due_s is None) == (plan.safety is None):
                    self.findings.add("timers", f"a plan with safety {plan.safety} has a lapse timer {due_s}")
            revisions = await connection.fetch("select plan_id, version, event from plan_revisions")
            wanted = [
                (one.data.plan_id, one.data.version, one.event.NAME)  # type: ignore[attr-defined]
                for events in plans.told.values()
                for one in events
                if one.event.NAME in ("plan.issued", "plan.revised")
            ]
            self.findings.same_all("plans", "versions of plans", wanted, [tuple(row) for row in revisions])
            bugs = [r for r in reads["plans.activity"] if self._is_bug(r)]
            groups = {name: reads[name] for name in ("plans.activity", "plans.safety")}
            await self._books(connection, "plans", groups, bugs={"plans.activity": bugs})

    def _is_bug(self, read: Read) -> bool:
        return read.fate == "taken" and self._kinds[read.record.key, read.record.value] == "bug"

    # -- messaging

    def _raise(
        self, plans: PlansOracle, visits: VisitsOracle, messages: MessagesOracle, alerts: MessagingOracle,
        told: dict[str, list[CloudEvent]],
    ) -> None:  # fmt: skip
        times = {event.id: event.time for event in told["careloop.plans"]}
        members = taken_events(read_as(self.log["careloop.members"], NO_KINDS))
        alerts.follow_screenings(members)
        words, perhaps = messages.red_flags(), self.told.done + self.told.perhaps
        for person in self.cast.people:
            decided, flags = (
                [one.at(times[one.id]) for one in of.get(person.member_id, []) if one.id in times]
                for of in (plans.told, plans.flags)
            )
            alerts.follow(decided)
            follow_red_flags(alerts, triggers_of(flags), words.get(person.member_id, []), perhaps)
            alerts.follow_visits(visits.of_member(person.member_id))
        alerts.finish(self.now)
        alerts.hold_against(self.told.done, self.told.perhaps)
        seen: dict[UUID, list[str]] = {}
        raised = {event_id for ids in alerts.order.values() for event_id in ids}
        for event in told["careloop.conversations"]:
            if event.id in raised:
                seen.setdefault(event.subject, []).append(event.id)
        for member_id, ids in alerts.order.items():
            if sorted(ids) == sorted(seen.get(member_id, [])) and ids != seen[member_id]:
                self.findings.add("order", "careloop.conversations: the alerts of a member are out of order")

    async def _look_at_messaging(
        self, alerts: MessagingOracle, visits: VisitsOracle, messages: MessagesOracle, reads: dict[str, list[Read]]
    ) -> None:
        async with self.world.connect("messaging") as connection:
            members = [person.member_id for person in self.cast.people]
            there = await load_member_alerts(connection, member_ids=members, limit=100_000)
            wanted = {alert.alert_id: comparable(alert) for alert in alerts.alerts.values()}
            self.findings.same_all("alerts", "alerts", wanted, [alert.alert_id for alert in there])
            for alert in there:
                as_well = [comparable(other) for other in alerts.or_else.get(alert.alert_id, [])]
                if alert.alert_id in wanted and comparable(alert) not in as_well:
                    self.findings.same("alerts", "an alert", wanted[alert.alert_id], comparable(alert))
            await visits.look_at_messaging(connection)
            await messages.look_at(connection, await _timers(connection, FIRST_RESPONSE))
            self.findings.same("timers", "visits ahead", visits.missed_timers(), await _timers(connection, MISSED))
            self.findings.same("timers", "holds", {}, await _timers(connection, HOLD))
            acknowledged = [a for a in there if a.status == "acknowledged"]
            taken_on = {str(a.alert_id): follow_up_of(a).due_at for a in acknowledged if a.snoozed_until is None}
            self.findings.same("timers", "alerts taken on", taken_on, await _timers(connection, FOLLOW_UP))
            asleep = {str(a.alert_id): a.snoozed_until for a in acknowledged if a.snoozed_until is not None}
            self.findings.same("timers", "alerts put off", asleep, await _timers(connection, SNOOZE))
            timers = await _timers(connection, ESCALATION)
            coming = {str(a.alert_id): a.respond_by for a in there if a.status == "open" and a.respond_by > self.now}
            self.findings.same("timers", "alerts that wait", coming, timers)
            activity = taken_events(reads["messaging.activity"])
            published = [
                event
                for topic in ("careloop.members", "careloop.contacts", *OURS)
                for event in taken_events(read_as(self.log[topic], NO_KINDS))
            ]
            shown = await connection.fetch("select member_id, source, event_id from timeline")
            self.findings.same_all(
                "timeline", "the timeline", [_place(e) for e in activity + published], [tuple(row) for row in shown]
            )
            read = await connection.fetch("select distinct member_id, source, event_id from pain_readings")
            self.findings.same_all("timeline", "readings", map(_place, activity), [tuple(row) for row in read])
            sessions = await connection.fetch("select session_id from sessions")
            done = [event.data.session_id for event in activity if isinstance(event, SessionCompleted)]
            self.findings.same_all("timeline", "sessions", done, [row["session_id"] for row in sessions])
            groups = {"messaging.activity": reads["messaging.activity"]}
            await self._books(connection, "messaging", groups, bugs={})

    # -- notifications

    async def _look_at_notifications(
        self, plans: PlansOracle, visits: VisitsOracle, messages: MessagesOracle, reads: dict[str, list[Read]],
        told: dict[str, list[CloudEvent]],
    ) -> None:  # fmt: skip
        async with self.world.connect("notifications") as connection:
            wanted = announced(told["careloop.plans"] + told["careloop.conversations"], self.now)
            coming: dict[str, datetime] = {}
            for plan in plans.plans.values():
                planned, reminder = reminders_of(plan, opening=self.world.opening, now=self.now)
                wanted |= set(planned)
                coming[str(plan.member_id)] = reminder.due_at
            due, either = visits.reminders(self.world.opening)
            due |= {one for one, must in messages.to_announce.items() if must}
            either |= messages.to_announce.keys() - due
            rows = await connection.fetch(NOTIFICATIONS)
            planned_ids = {row["notification_id"] for row in rows}
            self.findings.same_all("reminders", "notifications", wanted | due | (either & planned_ids), planned_ids)
            await visits.look_at_notifications(connection)
            timers = await _timers(connection, REMINDER)
            self.findings.same("timers", "visits to be reminded of", visits.reminder_timers(), timers)
            self.findings.same("timers", "reminders to come", coming, await _timers(connection, "reminder.session"))
            mailed = Counter(
                one.message_id.strip("<>").partition("@")[0] for one in self.world.mail.mailbox.latest(limit=100_000)
            )
            enders = enders_of(told["careloop.conversations"] + told["careloop.visits"])
            judge_ends(
                [dict(row) for row in rows], told["careloop.notifications"], mailed, self.findings, enders=enders,
                now=self.now,
            )  # fmt: skip
            groups = {"notifications.activity": reads["notifications.activity"]}
            await self._books(connection, "notifications", groups, bugs={})

    async def _books(
        self, connection: Connection, service: str, groups: dict[str, list[Read]], *, bugs: dict[str, list[Read]]
    ) -> None:
        release = self.world.crews[service].release  # type: ignore[index]
        await judge_books(connection, service, groups, self.log, self.findings, bugs=bugs, release=release)


async def _timers(connection: Connection, kind: str) -> dict[str, datetime]:
    rows = await connection.fetch("select key, due_at from delivery.timers where kind = $1", kind)
    return {row["key"]: row["due_at"] for row in rows}


def _decided_again(first: CloudEvent, copy: CloudEvent) -> bool:
    """The same decision, made another time."""
    return body(first) == body(copy.model_copy(update={"time": first.time}))


def _place(event: CloudEvent) -> tuple[UUID, str, str]:
    return (event.subject, event.source, event.id)


async def judge(
    world: World, cast: Cast, stream: Sequence[Publication], told: Told, enrolled: Sequence[EnrolmentTold]
) -> Findings:
    """What the oracle holds against a run that has come to rest."""
    log = await read_log(world.stage.urls.kafka_bootstrap, world.namespace)
    findings = Findings()
    await Judge(world, cast, stream, log, world.clock.now(), findings, told, enrolled).judge()
    judge_service_logs(world.folder, findings)
    return findings
