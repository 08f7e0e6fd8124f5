"""Every alert rule is about figures that exist, and says whom it wakes, what is wrong and where to read what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from deploy.dead_letters.readers import readers_of
from deploy.local.stack import SERVICES
from services.notifications.sender import page_figures
from shared import telemetry

ROOT = Path(__file__).parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
EXPRESSION = re.compile(
    r"(?:max|sum) by \(\w+\) \((?:increase\()?careloop_(?P<figure>\w+)"
    r'(?:\{(?P<label>\w+)(?P<how>=~?)"(?P<value>[^"]+)"\})?(?:\[\d+m\]\))?\) > (?P<above>\d+)'
)
SILENCE = re.compile(r'absent\(careloop_(?P<figure>\w+)\{service="(?P<service>\w+)"\}\)')
GROUP = {"consumer_group": "plans.activity"}
LEAST: list[tuple[str, float, dict[str, str], set[str]]] = [
    ("safety_failures_total", 1, {"consumer_group": "plans.safety"}, {"SafetyFailures"}),
    ("held_events", 1, {"consumer_group": "plans.safety", "state": "dead"}, {"SafetyDeadLetters", "DeadLetters"}),
    ("held_events", 1, {**GROUP, "state": "dead"}, {"DeadLetters"}),
    ("held_events", 1, {**GROUP, "state": "parked"}, {"ParkedMembers"}),
    ("held_events", 9, {**GROUP, "state": "waiting"}, set()),
    ("held_oldest_seconds", 86_401, {**GROUP, "state": "dead"}, {"DeadLettersForgotten"}),
    ("held_oldest_seconds", 86_400, {**GROUP, "state": "dead"}, set()),
    ("held_oldest_seconds", 21_601, {**GROUP, "state": "waiting"}, {"WaitingLong"}),
    ("partitions_full", 1, GROUP, {"NoRoomToHold"}),
    ("partitions_paused", 1, GROUP, {"PartitionsPaused"}),
    ("partitions_undelivered", 1, GROUP, {"PartitionsUndelivered"}),
    ("partitions_unopened", 1, GROUP, {"PartitionsUnopened"}),
    ("lag_seconds", 61, {"consumer_group": "plans.safety"}, {"RedFlagsWait"}),
    ("lag_seconds", 60, {"consumer_group": "plans.safety"}, set()),
    ("page_oldest_seconds", 61, {"service": "notifications"}, {"PagesWait"}),
    ("page_oldest_seconds", 60, {"service": "notifications"}, set()),
    ("pages_failed_total", 1, {"reason": "no-address"}, {"PagesFailed"}),
    ("lag_seconds", 601, GROUP, {"Behind"}),
    ("lag_seconds", 600, GROUP, set()),
    ("outbox_oldest_seconds", 61, {"service": "plans"}, {"OutboxStands"}),
    ("outbox_oldest_seconds", 60, {"service": "plans"}, set()),
    ("outbox_backoff_members", 1, {}, {"RelayBackoff"}),
    ("timers_given_up", 1, {"service": "plans"}, {"TimersGivenUp"}),
    ("timers_overdue_seconds", 601, {"service": "plans"}, {"TimersStand"}),
    ("timers_overdue_seconds", 600, {"service": "plans"}, set()),
    ("not_ready", 1, {"service": "plans"}, {"NotReady"}),
    ("bugs_total", 1, {"where": "sender"}, {"Bugs"}),
    ("task_restarts_total", 9, {"task": "timers"}, {"TasksFail"}),
    ("task_restarts_total", 8, {"task": "timers"}, set()),
    ("wrong_partition_records_total", 1, {"topic": "careloop.activity"}, {"WrongPartition"}),
]
"""A figure, a value of it, its labels, and the rules that it makes fire."""
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def metrics() -> dict[str, set[str]]:
    """The labels of each metric by every name that a rule may call it."""
    found = [
        metric
        for module in (telemetry, page_figures)
        for metric in vars(module).values()
        if isinstance(metric, MetricWrapperBase)
    ]
    return {
        family.name + suffix: set(metric._labelnames)
        for metric in found
        for family in metric.describe()
        for suffix in SUFFIXES[family.type]
    }


def anchors(page: Path) -> set[str]:
    """What a heading can be linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_is_complete(rule: dict[str, Any]) -> None:
    known = metrics()
    named = re.findall(r"\bcareloop_\w+", rule["expr"])
    assert named
    assert set(named) <= set(known), rule["expr"]
    labels = {label for name in named for label in known[name]} | {"job", "instance"}
    grouped = re.findall(r"by \(([\w, ]+)\)", rule["expr"])
    matched = re.findall(r"(\w+)=~?\"", rule["expr"])
    assert {word.strip() for words in grouped for word in words.split(",")} | set(matched) <= labels
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / page)


def test_names_are_used_once_and_the_promised_alarms_are_there() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    about = " ".join(rule["expr"] for rule in RULES)
    for figure in (
        "held_events", "held_oldest_seconds", "safety_failures_total", "partitions_paused", "partitions_undelivered",
        "partitions_full", "outbox_backoff_members", "timers_given_up", "not_ready", "bugs_total", "lag_seconds",
        "page_oldest_seconds", "pages_failed_total",
    ):  # fmt: skip
        assert f"careloop_{figure}" in about


def test_a_safety_group_is_known_by_its_name() -> None:
    """The rule about their dead letters goes by it."""
    readers = [reader for service in SERVICES for reader in readers_of(service).values()]
    assert {r.subscription.group.endswith(".safety") for r in readers if r.subscription.stateless} == {True}
    assert not [r for r in readers if r.subscription.group.endswith(".safety") and not r.subscription.stateless]


def silences(rule: dict[str, Any]) -> set[tuple[str, str]]:
    """The figures and services whose absence makes a rule fire, if it is about that."""
    parts = [SILENCE.fullmatch(part) for part in rule["expr"].split(" or ")]
    return {(part["figure"], part["service"]) for part in parts if part is not None} if all(parts) else set()


def test_a_service_that_tells_nothing_is_told_of() -> None:
    (silent,) = [rule for rule in RULES if silences(rule)]
    told = (ROOT / "docs/reference/metrics.md").read_text()
    assert {service for _, service in silences(silent)} == set(SERVICES)
    for figure, _ in silences(silent):
        assert re.search(rf"`careloop_{figure}` \| gauge \| `service` \| every service", told), figure


def fires(rule: dict[str, Any], figure: str, value: float, labels: dict[str, str]) -> bool:
    """Whether this figure alone, told by one replica, makes a rule fire."""
    found = EXPRESSION.fullmatch(rule["expr"])
    assert found, rule["expr"]
    if found["figure"] != figure or value <= float(found["above"]):
        return False
    if found["label"] is None:
        return True
    wanted, told = found["value"].replace("\\\\", "\\"), labels[found["label"]]
    return re.fullmatch(wanted, told) is not None if found["how"] == "=~" else wanted == told


@pytest.mark.parametrize(("figure", "value", "labels", "alarms"), LEAST)
def test_the_least_that_somebody_must_know_of_fires(
    figure: str, value: float, labels: dict[str, str], alarms: set[str]
) -> None:
    assert {rule["alert"] for rule in RULES if not silences(rule) and fires(rule, figure, value, labels)} == alarms


def test_it_is_known_of_every_rule_what_makes_it_fire() -> None:
    assert {alarm for *_, alarms in LEAST for alarm in alarms} == {
        rule["alert"] for rule in RULES if not silences(rule)
    }
