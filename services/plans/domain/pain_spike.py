"""Is this reading a spike? The rule in bold of the comparison, and the rules for the end of the scale."""

from services.plans.domain.rules import HOUR_S, CeilingRule, PainRules, Rule, SpikeRule


def detect_pain_spike(
    *, score: int, at_s: int, baseline: float, previous: tuple[int, float] | None, rules: PainRules
) -> Rule | None:
    """The rule by which this reading is a spike, or None.

    `previous` is the reading before it of the same kind: when, and how far above its baseline. None where there is
    none that counts, such as for a reading that came late.
    """
    if _is_spike(score=score, at_s=at_s, baseline=baseline, previous=previous, rule=rules.spike):
        return rules.spike
    if _is_spike_at_ceiling(
        score=score, at_s=at_s, baseline=baseline, previous=previous, rule=rules.ceiling, spike=rules.spike
    ):
        return rules.ceiling
    return None


def least_spike(*, rules: PainRules) -> int:
    """The lowest score that can be a spike, whatever is usual."""
    return min(rules.spike.score_min, rules.ceiling.baseline_min + 1)


def _is_spike(*, score: int, at_s: int, baseline: float, previous: tuple[int, float] | None, rule: SpikeRule) -> bool:
    if score < rule.score_min:
        return False
    above = score - baseline
    if above >= rule.once_above:
        return True
    return above >= rule.twice_above and _follows(
        previous=previous, at_s=at_s, within_h=rule.pair_within_h, above_min=rule.twice_above
    )


def _is_spike_at_ceiling(
    *, score: int, at_s: int, baseline: float, previous: tuple[int, float] | None, rule: CeilingRule, spike: SpikeRule
) -> bool:
    if baseline < rule.baseline_min or score <= baseline:
        return False
    if score >= rule.single_score and baseline <= rule.single_baseline_max:
        return True
    return _follows(previous=previous, at_s=at_s, within_h=spike.pair_within_h, above_min=None)


def _follows(*, previous: tuple[int, float] | None, at_s: int, within_h: int, above_min: int | None) -> bool:
    if previous is None or at_s - previous[0] > within_h * HOUR_S:
        return False
    return previous[1] > 0 if above_min is None else previous[1] >= above_min
