"""The guard that keeps contracts compatible, and proof that it bites: each kind of breaking change is planted."""

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from deploy.contracts import generate
from deploy.contracts.compatibility import breaking_changes
from deploy.contracts.schemas import event_schema
from shared.events import ConsentChanged, MemberLapsed, PlanRevised, SessionCompleted
from shared.events.catalogue import EVENTS

SESSION = event_schema(SessionCompleted)
PLAN = event_schema(PlanRevised)
Schema = dict[str, Any]


def data(schema: Schema) -> Schema:
    found: Schema = schema["$defs"]["SessionCompletedData"]
    return found


def exercise(schema: Schema) -> Schema:
    found: Schema = schema["$defs"]["ExerciseResult"]
    return found


def planted(change: Callable[[Schema], object], *, schema: Schema = SESSION) -> list[str]:
    after = copy.deepcopy(schema)
    change(after)
    assert after != schema
    return breaking_changes(schema, after)


BREAKING: dict[str, tuple[Callable[[Schema], object], str]] = {
    "field removed": (lambda s: data(s)["properties"].pop("pain_before"), "data.pain_before: was removed"),
    "field removed deep down": (
        lambda s: exercise(s)["properties"].pop("rpe"),
        "data.exercises[].rpe: was removed",
    ),
    "attribute removed": (lambda s: s["properties"].pop("traceparent"), "traceparent: was removed"),
    "new required field": (
        lambda s: (
            data(s)["properties"].update(mood={"type": "string"}),
            data(s)["required"].append("mood"),
        ),
        "data.mood: is now required",
    ),
    "optional becomes required": (lambda s: data(s)["required"].append("plan_id"), "data.plan_id: is now required"),
    "required becomes optional": (
        lambda s: data(s)["required"].remove("pain_during"),
        "data.pain_during: was always there and is now optional",
    ),
    "type changed": (
        lambda s: data(s)["properties"].update(duration_min={"type": "string"}),
        "data.duration_min: type changed",
    ),
    "integer becomes number": (
        lambda s: data(s)["properties"]["pain_during"].update(type="number"),
        "data.pain_during: type changed",
    ),
    "upper limit falls": (
        lambda s: data(s)["properties"]["pain_during"].update(maximum=9),
        "data.pain_during: maximum fell",
    ),
    "lower limit rises": (
        lambda s: data(s)["properties"]["duration_min"].update(minimum=5),
        "data.duration_min: minimum rose",
    ),
    "limit appears": (lambda s: exercise(s)["properties"]["sets_done"].update(multiple=1, exclusiveMaximum=5),
                      "data.exercises[].sets_done: exclusiveMaximum fell"),
    "list gets shorter": (
        lambda s: data(s)["properties"]["exercises"].update(maxItems=5),
        "data.exercises: maxItems fell",
    ),
    "text gets shorter": (lambda s: s["properties"]["id"].update(maxLength=64), "id: maxLength fell"),
    "word removed": (
        lambda s: exercise(s)["properties"]["exercise"]["enum"].remove("bridge"),
        "data.exercises[].exercise: 'bridge' is not allowed any more",
    ),
    "word renamed": (
        lambda s: exercise(s)["properties"]["exercise"].update(enum=["quad-stretch"]),
        "data.exercises[].exercise: 'bridge' is not allowed any more",
    ),
    "free text becomes a closed list": (
        lambda s: s["properties"]["source"].update(enum=["urn:a"]),
        "source: only some values are allowed now",
    ),
    "constant changed": (
        lambda s: s["properties"]["type"].update(const="org.careloop.session.done.v1"),
        "type: 'org.careloop.session.completed.v1' is not allowed any more",
    ),
    "pattern changed": (lambda s: s["properties"]["id"].update(pattern="^[a-z]+$"), "id: pattern changed"),
    "format changed": (
        lambda s: data(s)["properties"]["started_at"].update(format="date"),
        "data.started_at: format changed",
    ),
    "null no longer allowed": (
        lambda s: exercise(s)["properties"]["rpe"].update(anyOf=[{"type": "integer", "minimum": 0, "maximum": 10}]),
        "data.exercises[].rpe: type changed",
    ),
    "limit inside an optional field": (
        lambda s: exercise(s)["properties"]["rpe"]["anyOf"][0].update(maximum=9),
        "data.exercises[].rpe: maximum fell",
    ),
    "meaning of absence changed": (
        lambda s: data(s)["properties"]["findings"].update(default=["fall"]),
        "data.findings: what its absence means changed",
    ),
}  # fmt: skip

ADDITIVE: dict[str, Callable[[Schema], object]] = {
    "new optional field": lambda s: data(s)["properties"].update(mood={"type": "string", "default": "unknown"}),
    "new optional field deep down": lambda s: exercise(s)["properties"].update(tempo={"type": "integer"}),
    "new word": lambda s: exercise(s)["properties"]["exercise"]["enum"].append("calf-raise"),
    "wider limit": lambda s: data(s)["properties"]["duration_min"].update(maximum=480, minimum=0),
    "limit removed": lambda s: data(s)["properties"]["duration_min"].pop("maximum"),
    "another kind of value besides": lambda s: data(s)["properties"].update(
        duration_min={"anyOf": [data(s)["properties"]["duration_min"], {"type": "null"}]}
    ),
    "one word becomes a list": lambda s: (
        s["properties"]["specversion"].update(enum=["1.0", "1.1"], const=None)
        or s["properties"]["specversion"].pop("const")
    ),
    "explanation": lambda s: data(s)["properties"]["duration_min"].update(description="Minutes."),
}


@pytest.mark.parametrize(("change", "told"), BREAKING.values(), ids=BREAKING)
def test_a_breaking_change_is_caught_and_named(change: Callable[[Schema], object], told: str) -> None:
    assert told in planted(change)


@pytest.mark.parametrize("change", ADDITIVE.values(), ids=ADDITIVE)
def test_an_additive_change_passes(change: Callable[[Schema], object]) -> None:
    assert planted(change) == []


def test_a_change_in_a_shared_part_is_caught_in_each_event_that_has_it() -> None:
    told = planted(lambda s: s["$defs"]["Decision"]["properties"].pop("evidence"), schema=PLAN)

    assert told == ["data.changes[].decision.evidence: was removed", "data.decision.evidence: was removed"]


def test_a_choice_of_lists_may_grow_and_not_shrink() -> None:
    consent, lapsed = event_schema(ConsentChanged), event_schema(MemberLapsed)

    topic = consent["$defs"]["ConsentChangedData"]["properties"]["topic"]
    assert [sorted(choice) for choice in topic["anyOf"]] == [["enum", "type"], ["const", "type"]]
    assert planted(
        lambda s: s["$defs"]["ConsentChangedData"]["properties"]["topic"]["anyOf"][0]["enum"].append("news"),
        schema=consent,
    ) == []  # fmt: skip
    assert planted(
        lambda s: s["$defs"]["ConsentChangedData"]["properties"]["topic"]["anyOf"].pop(1), schema=consent
    ) == ["data.topic: 'all' is not allowed any more"]  # fmt: skip
    assert planted(
        lambda s: s["$defs"]["MemberLapsedData"]["properties"]["rung_days"]["enum"].remove(21), schema=lapsed
    ) == ["data.rung_days: 21 is not allowed any more"]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.NAME)
def test_a_schema_is_compatible_with_itself(event: Any) -> None:
    assert breaking_changes(event_schema(event), event_schema(event)) == []


def test_no_event_has_changed_incompatibly_since_its_schema_was_accepted() -> None:
    assert generate.breaking_since_accepted() == []


def test_every_event_has_an_accepted_schema_of_its_version() -> None:
    """Otherwise run `python -m deploy.contracts.generate --accept`, after raising MINOR where a field came."""
    assert generate.unversioned_since_accepted() == [], "these changed and their MINOR did not"
    for event in EVENTS.values():
        accepted = orjson.loads((generate.ACCEPTED / f"{generate.versioned_name(event)}.json").read_bytes())
        assert accepted["$id"] == event_schema(event)["$id"]


def test_a_breaking_change_is_never_accepted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    accepted = tmp_path / "schemas"
    monkeypatch.setattr(generate, "ACCEPTED", accepted)
    monkeypatch.setattr(generate, "REFERENCE", tmp_path / "reference")
    earlier = copy.deepcopy(SESSION)
    data(earlier)["properties"]["mood"] = {"type": "string"}
    accepted.mkdir()
    (accepted / "session.completed.v1.json").write_bytes(orjson.dumps(earlier))
    (accepted / "gone.v1.json").write_bytes(orjson.dumps(earlier))

    assert generate.main(["--accept"]) == 1
    assert "session.completed.v1: data.mood: was removed" in capsys.readouterr().err
    assert orjson.loads((accepted / "session.completed.v1.json").read_bytes()) == earlier
    assert "gone.v1: the event was removed" in generate.breaking_since_accepted()


def test_an_additive_change_asks_for_a_minor_version(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "ACCEPTED", tmp_path)
    earlier = copy.deepcopy(SESSION)
    del data(earlier)["properties"]["pain_before"]
    (tmp_path / "session.completed.v1.json").write_bytes(orjson.dumps(earlier))

    assert generate.breaking_since_accepted() == []
    assert generate.unversioned_since_accepted() == ["session.completed.v1"]
