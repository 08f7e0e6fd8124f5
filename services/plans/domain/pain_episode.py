"""An episode of raised pain, from the spike that opens it to the readings that settle it.

no episode --spike--> open --3 calm readings over 5 days--> settled --spike within 7 days of the alert--> open, quiet
                      open --6 readings or 14 days--> review asked --reviewed--> re-anchored, settled
"""

from uuid import uuid5

from msgspec.structs import replace

from services.plans.domain.care_plan import Episode, PainKind, PainLevel, Ref, Value
from services.plans.domain.pain_baseline import median, pain_baseline
from services.plans.domain.pain_spike import detect_pain_spike
from services.plans.domain.rules import DAY_S, HOUR_S, PainRules, ReAnchorRule, Rule
from shared.events.envelope import NAMESPACE

SCORE_MAX = 10


class PainReading(Value, frozen=True):
    at_s: int
    score: int
    kind: PainKind
    event: Ref


class PainStep(Value, frozen=True):
    """What one reading led to."""

    level: PainLevel
    baseline: float
    """Usual pain as it was when the reading came."""
    alert: Rule | None = None
    """The rule by which the care team is told; None: nobody is."""
    repeated: bool = False
    settled: Rule | None = None
    review: Rule | None = None


def follow_pain(*, level: PainLevel, reading: PainReading, red_flag: bool, rules: PainRules) -> PainStep:
    """Take one reading. `red_flag`: the same answers held a blocking disposition."""
    baseline = pain_baseline(level=level, kind=reading.kind, rule=rules.baseline)
    late = reading.at_s < level.latest_s
    if late and level.latest_s - reading.at_s > rules.late.within_h * HOUR_S:
        return PainStep(level=level, baseline=baseline)
    previous = level.last_exercise if reading.kind == "exercise" else level.last_daily
    spike = detect_pain_spike(
        score=reading.score, at_s=reading.at_s, baseline=baseline, previous=None if late else previous, rules=rules
    )
    episode = level.episode
    if not late:
        is_usual = spike is None and (episode is None or not episode.open)
        level = _remember(level=level, reading=reading, baseline=baseline, is_usual=is_usual, rules=rules)
    if episode is not None and episode.open:
        return _within(
            level=level,
            episode=episode,
            reading=reading,
            baseline=baseline,
            spike=spike,
            red_flag=red_flag,
            late=late,
            rules=rules,
        )
    if spike is None:
        return PainStep(level, baseline)
    return _open(
        level=level,
        reading=reading,
        baseline=baseline,
        spike=spike,
        previous=None if late else previous,
        rules=rules,
    )


def re_anchor(*, level: PainLevel, rule: ReAnchorRule) -> PainLevel:
    """A reviewed level that stays up is the new usual: the median of the last readings, and the episode is over.
    Without an open episode whose review was asked for, nothing changes."""
    episode = level.episode
    if episode is None or not episode.open or not episode.review_asked or not episode.recent:
        return level
    recent = episode.recent[-rule.readings_max :]
    return replace(
        level,
        usual=median(tuple(score for _, score in recent)),
        exercise=tuple(score for kind, score in recent if kind == "exercise"),
        daily=tuple(score for kind, score in recent if kind == "daily"),
        last_exercise=None,
        last_daily=None,
        episode=replace(episode, open=False),
    )


def _remember(
    *, level: PainLevel, reading: PainReading, baseline: float, is_usual: bool, rules: PainRules
) -> PainLevel:
    """`is_usual`: a non-spike reading outside an episode counts towards what is usual."""
    last = (reading.at_s, reading.score - baseline)
    readings = level.exercise if reading.kind == "exercise" else level.daily
    if is_usual:
        kept = rules.baseline.readings_max + 1  # one more: the last may turn out to be the first of a pair
        readings = (*readings, reading.score)[-kept:]
    if reading.kind == "exercise":
        return replace(level, exercise=readings, last_exercise=last, latest_s=reading.at_s)
    return replace(level, daily=readings, last_daily=last, latest_s=reading.at_s)


def _open(
    *,
    level: PainLevel,
    reading: PainReading,
    baseline: float,
    spike: Rule,
    previous: tuple[int, float] | None,
    rules: PainRules,
) -> PainStep:
    level = _without_first_of_pair(level=level, reading=reading, baseline=baseline, previous=previous, rules=rules)
    before, recent = level.episode, ((reading.kind, reading.score),)
    cooling = before is not None and reading.at_s - before.alert_s < rules.repeat.cooldown_d * DAY_S
    if before is not None and cooling:
        louder = reading.score >= before.alert_score + rules.repeat.above_last_alert
        again = replace(
            before,
            open=True,
            quiet=not louder,
            review_asked=False,
            readings=1,
            recent=recent,
            calm=0,
            opened_s=reading.at_s,
        )
        if louder:
            again = _alerted(episode=again, reading=reading)
        return PainStep(
            level=replace(level, episode=again),
            baseline=baseline,
            alert=rules.repeat if louder else None,
            repeated=louder,
        )
    episode = Episode(
        id=uuid5(NAMESPACE, f"pain-episode {reading.event[0]} {reading.event[1]}"),
        opened_s=reading.at_s,
        alert_s=reading.at_s,
        alert_score=reading.score,
        first_ten_s=reading.at_s if reading.score == SCORE_MAX else None,
        recent=recent,
    )
    return PainStep(level=replace(level, episode=episode), baseline=baseline, alert=spike)


def _without_first_of_pair(
    *, level: PainLevel, reading: PainReading, baseline: float, previous: tuple[int, float] | None, rules: PainRules
) -> PainLevel:
    """Where two readings raised an episode together, the first belongs to it and leaves the baseline."""
    alone = detect_pain_spike(score=reading.score, at_s=reading.at_s, baseline=baseline, previous=None, rules=rules)
    if previous is None or alone is not None:
        return level
    if reading.kind == "exercise":
        return replace(level, exercise=level.exercise[:-1])
    return replace(level, daily=level.daily[:-1])


def _within(
    *,
    level: PainLevel,
    episode: Episode,
    reading: PainReading,
    baseline: float,
    spike: Rule | None,
    red_flag: bool,
    late: bool,
    rules: PainRules,
) -> PainStep:
    if not late:
        episode = _count(episode=episode, reading=reading, baseline=baseline, rules=rules)
        settle = rules.settle
        if episode.calm >= settle.readings_min and reading.at_s - episode.calm_since_s >= settle.span_d * DAY_S:
            over = replace(episode, open=False)
            alert = rules.red_flag if red_flag else None
            return PainStep(
                level=replace(level, episode=over),
                baseline=baseline,
                settled=settle,
                alert=alert,
                repeated=alert is not None,
            )
    alert = _repeats(episode=episode, reading=reading, spike=spike, red_flag=red_flag, rules=rules)
    if alert is not None:
        episode = _alerted(episode=episode, reading=reading)
    elif reading.score == SCORE_MAX and episode.first_ten_s is None:
        episode = replace(episode, first_ten_s=reading.at_s)
    review = None
    if not episode.review_asked and _stays_up(episode=episode, reading=reading, rules=rules):
        episode, review = replace(episode, review_asked=True), rules.new_level
    return PainStep(
        level=replace(level, episode=episode), baseline=baseline, alert=alert, repeated=alert is not None, review=review
    )


def _count(*, episode: Episode, reading: PainReading, baseline: float, rules: PainRules) -> Episode:
    calm = episode.calm + 1 if reading.score <= baseline + rules.settle.above_max else 0
    return replace(
        episode,
        readings=episode.readings + 1,
        recent=(*episode.recent, (reading.kind, reading.score))[-rules.re_anchor.readings_max :],
        calm=calm,
        calm_since_s=reading.at_s if calm == 1 else episode.calm_since_s,
    )


def _repeats(
    *, episode: Episode, reading: PainReading, spike: Rule | None, red_flag: bool, rules: PainRules
) -> Rule | None:
    """The rule by which an open episode alerts again, or None."""
    repeat = rules.repeat
    if red_flag:
        return rules.red_flag
    if reading.score >= episode.alert_score + repeat.above_last_alert:
        return repeat
    since_ten_s = None if episode.first_ten_s is None else reading.at_s - episode.first_ten_s
    hidden = episode.alert_score + repeat.above_last_alert > SCORE_MAX
    if hidden and not episode.alerted_at_ceiling and reading.score == SCORE_MAX and since_ten_s is not None:
        return repeat if since_ten_s >= repeat.ceiling_after_h * HOUR_S else None
    cooled = reading.at_s - episode.alert_s >= repeat.cooldown_d * DAY_S
    return spike if episode.quiet and cooled else None


def _alerted(*, episode: Episode, reading: PainReading) -> Episode:
    at_ceiling = reading.score == SCORE_MAX
    return replace(
        episode,
        alert_s=max(episode.alert_s, reading.at_s),
        alert_score=reading.score,
        first_ten_s=reading.at_s if at_ceiling else None,
        alerted_at_ceiling=episode.alerted_at_ceiling or (at_ceiling and episode.first_ten_s is not None),
        quiet=False,
    )


def _stays_up(*, episode: Episode, reading: PainReading, rules: PainRules) -> bool:
    rule = rules.new_level
    return episode.readings >= rule.readings_min or reading.at_s - episode.opened_s >= rule.open_d * DAY_S
