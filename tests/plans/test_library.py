"""The rule data: every number has an id, a version, a mark and a source, and a wrong file stops the start."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from services.plans.domain.rules import ExerciseRule, FrequencyRule, Rule
from services.plans.store.rules import load_library
from shared.events.vocabulary import Cause, Exercise, TreatmentElement


def rules_of(value: Any) -> Iterator[Rule]:
    if isinstance(value, Rule):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from rules_of(getattr(value, name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from rules_of(one)


def test_every_rule_is_cited_and_named_once() -> None:
    rules = list(rules_of(load_library()))
    assert len(rules) > 30
    assert len({rule.id for rule in rules}) == len(rules)
    assert all(rule.source and rule.says for rule in rules)
    assert all(load_library().owners.values())


def test_the_library_covers_the_vocabulary() -> None:
    library = load_library()
    assert set(library.exercises) == set(get_args(Exercise))
    assert set(library.pathways.elements) == set(get_args(TreatmentElement))
    assert set(library.pathways.causes) == set(get_args(Cause))
    assert set(library.pathways.causes.values()) == set(library.pathways.pathways)
    assert len(library.pathways.pathways) == 4


@pytest.mark.parametrize("change", [{"start": 0}, {"start": 9}, {"ladder": []}, {"kind": "stretch"}, {"mark": "X"}])
def test_an_exercise_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    bridge = load_library().exercises["bridge"].model_dump()
    ladder = [{**step, "hold_s": None} for step in bridge["ladder"]]
    with pytest.raises(ValidationError):
        ExerciseRule.model_validate({**bridge, "ladder": ladder, **change})


def test_strength_days_that_follow_each_other_are_refused() -> None:
    rule = load_library().pathways.frequency.model_dump()
    for days in ([1, 2, 5], [1, 3, 7]):
        weeks = {5: [*days, 4, 6]}
        with pytest.raises(ValidationError, match="consecutive"):
            FrequencyRule.model_validate({**rule, "strength_weekdays": days, "weekdays": weeks})
