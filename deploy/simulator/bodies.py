"""How a simulated knee feels from day to day: usual pain that slowly improves, flares, good and bad days. Pure.

Sources and marks of every number: `parameters.yaml`.
"""

import math
import random
from dataclasses import dataclass
from functools import cache

from deploy.simulator.parameters import Parameters
from shared.events.vocabulary import PainScore

PROGRAMME_DAYS = 84


@dataclass(frozen=True, kw_only=True)
class Flare:
    """Pain above usual by `rise` points, for `days`."""

    days: int
    rise: float


@dataclass(frozen=True, kw_only=True)
class BodyDay:
    """One day of one knee. `level` is what an average reading of the day would be, before noise of the reading."""

    usual: float
    rise: float
    mood: float
    """What makes it a good or a bad day, in points."""
    flare_begins: Flare | None = None

    @property
    def flaring(self) -> bool:
        return self.rise > 0

    @property
    def level(self) -> float:
        return self.usual + self.rise + self.mood


def draw_flare(rng: random.Random, p: Parameters) -> Flare:
    days = round(p.flare_median_days * math.exp(rng.gauss(0, p.flare_log_sd)))
    rise = p.flare_rise_min + rng.expovariate(1 / p.flare_rise_extra_mean)
    return Flare(days=min(p.flare_days_max, max(p.flare_days_min, days)), rise=min(p.flare_rise_max, rise))


@cache
def onset_per_quiet_day(rate_per_100: float, median: float, log_sd: float) -> float:
    """Chance of a flare to begin on a day without one, so that person-days with and without have the rate wanted.

    A log-normal's mean is median x exp(sd^2 / 2); the share of days in a flare is rate x mean days.
    """
    share_in_flare = rate_per_100 / 100 * median * math.exp(log_sd**2 / 2)
    return rate_per_100 / 100 / (1 - share_in_flare)


class Body:
    """One member's knee; `live_day` gives the days one after the other."""

    def __init__(self, rng: random.Random, *, usual_pain: float, p: Parameters) -> None:
        self._rng, self._p, self._start = rng, p, usual_pain
        responds = rng.random() < p.responders_share
        mean = p.responder_improvement if responds else p.other_improvement
        self.improvement = min(0.95, max(-0.1, rng.gauss(mean, p.improvement_spread)))
        self._day = 0
        self._flare: Flare | None = None
        self._flare_days_left = 0

    def usual_on(self, day: int) -> float:
        """Usual pain on a programme day: most of the gain early, all of `improvement` by week 12, steady after."""
        scale = 1 - math.pow(0.5, PROGRAMME_DAYS / self._p.improvement_half_life_days)
        gained = (1 - math.pow(0.5, min(day, PROGRAMME_DAYS) / self._p.improvement_half_life_days)) / scale
        return self._start * (1 - self.improvement * gained)

    def live_day(self) -> BodyDay:
        rng, p = self._rng, self._p
        begins = None
        onset = onset_per_quiet_day(p.flares_per_100_person_days, p.flare_median_days, p.flare_log_sd)
        luck = rng.random()
        if self._flare_days_left == 0 and luck < onset:
            begins = self._flare = draw_flare(rng, p)
            self._flare_days_left = begins.days
        rise = 0.0
        if self._flare is not None and self._flare_days_left > 0:
            rise = self._flare.rise
            self._flare_days_left -= 1
        mood = rng.gauss(0, p.within_person_sd * math.sqrt(p.day_share_of_variance))
        day = BodyDay(usual=self.usual_on(self._day), rise=rise, mood=mood, flare_begins=begins)
        self._day += 1
        return day


def read_pain(rng: random.Random, *, level: float, p: Parameters) -> PainScore:
    """What a member answers on the scale 0-10 when their knee is at `level`."""
    noise = rng.gauss(0, p.within_person_sd * math.sqrt(1 - p.day_share_of_variance))
    return min(10, max(0, round(level + noise)))
