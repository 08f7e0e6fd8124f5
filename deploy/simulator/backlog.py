"""A population whose last days arrive now: what `careloop simulate` plays into a stack that lives in the present."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiokafka.errors import KafkaError

from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack
from deploy.simulator.access import Away, Refused, open_access
from deploy.simulator.clinic import prepare_clinic
from deploy.simulator.clinic_time import NotSettled, wait_settled
from deploy.simulator.diary import CohortEntry, Via, load_diary, save_entry
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import Cohort, population
from deploy.simulator.playing import AGE_MAX
from deploy.simulator.publish import Sent, open_phones
from deploy.simulator.stream import Publication, published_stream, stream_bytes, until
from shared.clock import open_clock

BATCH = 500
SETTLE_S = 120.0
Show = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and what is being done."""


@dataclass(frozen=True, kw_only=True)
class Played:
    population: str
    sent: Sent
    forgotten: int
    """Events that are too old to be taken."""
    settled: bool
    digest: str
    """SHA-256 of the published stream: equal populations have equal ones."""


def backlog(cohort: Cohort, *, until_at: datetime | None = None) -> list[Publication]:
    """All that a population sends in its days, or until a clinic time. Pure: equal cohorts give equal bytes."""
    p = load_parameters()
    sent = published_stream(cohort=cohort, members=population(cohort, p), p=p)
    return list(until(sent, until_at or cohort.starts_at + timedelta(days=cohort.days)))


async def play_backlog(stack: Stack, *, cohort: Cohort, via: Via, show: Show) -> Played:
    """Enrols a population and sends its last days; from then on it lives with the others.

    A population that was played before sends the same again, from the day it began then. Raises LocalProblem.
    """
    known = load_diary(stack.simulation).entry_of(cohort)
    entry = known or CohortEntry.new(cohort, via=via)
    publications = backlog(entry.cohort)
    digest = hashlib.sha256()
    for line in stream_bytes(iter(publications)):
        digest.update(line)
    now = open_clock(stack.clock_file).now()
    kept = [p for p in publications if p.kind != "event" or p.at >= now - AGE_MAX]
    try:
        async with open_access(stack) as access, open_phones(access, via=via) as phones:
            await prepare_clinic(access, members=population(entry.cohort, load_parameters()), now=now)
            sent = Sent()
            for start in range(0, len(kept), BATCH):
                sent.add(await phones.send(kept[start : start + BATCH]))
                show(min(start + BATCH, len(kept)), len(kept), "sending")
            if known is None:
                ends_at = entry.cohort.starts_at + timedelta(days=cohort.days)
                save_entry(stack.simulation, entry.model_copy(update={"sent_until": ends_at}))
            show(len(kept), len(kept), "waiting until it is worked off")
            try:
                await wait_settled(access.client, stack, at=now, within_s=SETTLE_S)
                settled = True
            except NotSettled:
                settled = False
    except* (Away, KafkaError, Refused) as groups:
        raise LocalProblem(f"The simulation could not go on: {first_of(groups)}.") from groups
    return Played(
        population=entry.cohort.name,
        sent=sent,
        forgotten=len(publications) - len(kept),
        settled=settled,
        digest=digest.hexdigest(),
    )


def first_of(failure: BaseException) -> BaseException:
    """The first failure inside groups of them."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
