"""docs/reference/rules.md, from the rule data of the services and of the red-flag screening."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from deploy.contracts.tables import page, table
from services.enrollment.store.intake_rules import list_rules as list_intake_rules
from services.messaging.store.rules import list_rules as list_messaging_rules
from services.notifications.store.library import list_rules as list_notification_rules
from services.plans.domain.rules import ExerciseRule, Rule
from services.plans.store.rules import load_library
from shared.red_flags import load_red_flag_rules

MARKS = {
    "V": "seen in published text",
    "D": "derived",
    "A": "our assumption",
    "U": "unverified",
}
TITLES = {
    "pain": "Pain: baseline, spikes, episodes",
    "progression": "Progression",
    "exercises": "Exercises and their ladders",
    "pathways": "Pathways and the first plan",
    "engagement": "Lapses, streaks, milestones",
}
HEADER = ("rule", "version", "mark", "what it says", "numbers", "source")


def rule_book() -> str:
    """The whole page."""
    library = load_library()
    sections = [
        "Rules are data (`services/*/library/*.yaml`, `shared/red_flags.yaml`): versioned, cited and marked. A "
        "decision in an event names its rule and version. This is not a clinical sign-off: where a mark is A or U, "
        "the rule is an assumption or unverified, and the owner named below has not signed it off yet.",
        table(("mark", "means"), MARKS.items()),
    ]
    for name, title in TITLES.items():
        rules = list(_rules_of(getattr(library, name)))
        sections += [f"## {title}", f"Owner: {library.owners[name]}.", table(HEADER, (_row(rule) for rule in rules))]
        sections += [_ladder(rule) for rule in rules if isinstance(rule, ExerciseRule)]
    listed: list[tuple[str, Sequence[ListedRule]]] = [
        ("Intake and care teams", list_intake_rules()),
        ("Alerts, messages and visits", list_messaging_rules()),
        ("Notifications", list_notification_rules()),
    ]
    for title, entries in listed:
        sections += [f"## {title}", _listed(entries)]
    return page("Rule book", *sections, *_red_flags())


class ListedRule(Protocol):
    """What a service tells of a rule."""

    @property
    def id(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def owner(self) -> str: ...
    @property
    def mark(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def says(self) -> str: ...


def _listed(entries: Sequence[ListedRule]) -> str:
    rows = [(f"`{rule.id}`", str(rule.version), rule.mark, rule.says, rule.source, rule.owner) for rule in entries]
    return table(("rule", "version", "mark", "what it says", "source", "owner"), rows)


def _red_flags() -> list[str]:
    rules = load_red_flag_rules()
    rows = [
        (
            f"`{rule.id}`", str(rule.version), rule.mark, rule.disposition, _condition(rule.all_of, rule.any_of),
            rule.reason, rule.source,
        )
        for rule in rules.rules
    ]  # fmt: skip
    context = rules.context
    rows.append(
        (
            f"`{context.id}`", str(context.version), context.mark, "none",
            "only " + ", ".join(sorted(context.findings)), context.reason, context.source,
        )
    )  # fmt: skip
    told = [(name, text.en, text.es) for name, text in rules.dispositions.items()]
    return [
        "## Red flags",
        f"Owner: {rules.owner}. The most urgent rule that matches decides; clinician-72h, same-day and emergency "
        "block a plan.",
        table(("rule", "version", "mark", "disposition", "findings", "reason", "source"), rows),
        "What the member is told:",
        table(("disposition", "English", "Spanish"), told),
    ]


def _condition(all_of: frozenset[str], any_of: frozenset[str]) -> str:
    every = " and ".join(sorted(all_of))
    return f"{every} and any of {', '.join(sorted(any_of))}" if any_of else every


def _rules_of(value: Any) -> Iterator[Rule]:
    if isinstance(value, Rule):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _rules_of(one)
    elif hasattr(type(value), "model_fields"):
        for name in type(value).model_fields:
            yield from _rules_of(getattr(value, name))


def _row(rule: Rule) -> tuple[str, ...]:
    own = [name for name in type(rule).model_fields if name not in Rule.model_fields and name not in ("ladder", "gate")]
    numbers = "; ".join(f"{name} {_plain(getattr(rule, name))}" for name in own)
    says = f"{rule.says} {rule.gate}." if isinstance(rule, ExerciseRule) else rule.says
    return (f"`{rule.id}`", str(rule.version), rule.mark, says, numbers, rule.source)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(one)}" for key, one in value.items())
    return " ".join(str(one) for one in value) if isinstance(value, tuple) else str(value)


def _ladder(rule: ExerciseRule) -> str:
    rows = [
        (
            f"{number}{' (start)' if number == rule.start else ''}", step.name, str(step.sets), str(step.reps or ""),
            f"{step.hold_s} s" if step.hold_s else "", step.mark,
        )
        for number, step in enumerate(rule.ladder)
    ]  # fmt: skip
    return f"Ladder of `{rule.id}`:\n\n" + table(("step", "name", "sets", "repetitions", "hold", "mark"), rows)
