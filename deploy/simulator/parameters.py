"""The parameters of simulated lives, from `parameters.yaml`, where each names its source and mark."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

PATH = Path(__file__).with_name("parameters.yaml")


class Cited(BaseModel):
    """One parameter as written down."""

    model_config = ConfigDict(extra="forbid")

    value: Any
    unit: str = Field(min_length=1)
    source: str = Field(min_length=1)
    mark: Literal["V", "D", "A", "U"]


class Parameters(BaseModel):
    """Values by name. Shares are 0-1, times carry their unit in the name, `*_weights` need not sum to one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual_pain_mean: float
    usual_pain_sd: float
    within_person_sd: float
    day_share_of_variance: float
    responders_share: float
    responder_improvement: float
    other_improvement: float
    improvement_spread: float
    improvement_half_life_days: float
    flares_per_100_person_days: float
    flare_median_days: float
    flare_days_min: int
    flare_days_max: int
    flare_log_sd: float
    flare_rise_min: float
    flare_rise_extra_mean: float
    flare_rise_max: float
    buckling_odds_ratio_in_flare: float
    sessions_per_week: float
    planned_days_weights: dict[int, float]
    adherence_in_flare: float
    pain_reports_per_week: float
    hour_weights: list[float]
    same_hour_share: float
    completion_share: float
    lapses_per_100_person_days: float
    lapse_days_min: int
    lapse_days_max: int
    findings_per_1000_sessions: float
    finding_weights: dict[str, float]
    rest_after_red_flag_days: int
    morning_answers_share: float
    rpe_start: float
    rpe_gain_per_session: float
    rpe_rise_per_flare_point: float
    extra_reps_per_session: float
    complete_share: float
    complete_share_in_flare: float
    zone_weights: dict[str, float]
    age_mean: float
    age_sd: float
    spanish_share: float
    cause_weights: dict[str, float]
    intent_weights: dict[str, float]
    blocking_intake_share: float
    mild_intake_share: float
    joined_at_once_share: float
    messages_per_active_week: float
    member_share_of_messages: float
    visits_per_active_month: float
    acknowledged_share: float
    acknowledge_median_min: float
    resolve_median_h: float
    resolve_pressing_median_min: float
    visit_after_alert_share: float
    reply_median_h: float
    visit_missed_share: float
    open_for_a_person_h: float
    open_for_a_person_min: int
    open_for_a_person_max_h: float
    unanswered_for_a_person_h: float
    unresolved_for_a_person_h: float
    duplicate_share: float
    late_share: float
    late_h_max: float


def load_cited() -> dict[str, Cited]:
    """Every parameter with its source and mark; pydantic's ValidationError when one lacks them."""
    written = yaml.safe_load(PATH.read_text())
    return {name: Cited.model_validate(entry) for name, entry in written["parameters"].items()}


@cache
def load_parameters() -> Parameters:
    return Parameters.model_validate({name: cited.value for name, cited in load_cited().items()})
