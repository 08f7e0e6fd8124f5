"""What the simulation remembers of a stack between runs: its populations, and how far each has been played."""

import fcntl
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from deploy.local.problems import LocalProblem
from deploy.local.processes import write_private
from deploy.simulator.people import Cohort

DIARY_FILE = "simulation.json"
LOCK_FILE = "simulation.lock"
Via = Literal["http", "kafka", "both"]


class CohortEntry(BaseModel):
    """One population. All it sends before `sent_until` has been taken; sending some again changes nothing."""

    model_config = ConfigDict(frozen=True)

    seed: int
    members: int
    days: int
    starts_on: date
    via: Via
    sent_until: datetime
    staff_did: dict[str, int] = {}
    """How often the staff did what while it was played in, for whoever watches."""

    @staticmethod
    def new(cohort: Cohort, *, via: Via) -> "CohortEntry":
        """Of a population of which nothing has been sent."""
        return CohortEntry(
            seed=cohort.seed,
            members=cohort.members,
            days=cohort.days,
            starts_on=cohort.starts_on,
            via=via,
            sent_until=datetime.min.replace(tzinfo=UTC),
        )

    @property
    def cohort(self) -> Cohort:
        return Cohort(seed=self.seed, members=self.members, days=self.days, starts_on=self.starts_on)


class Diary(BaseModel):
    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    cohorts: tuple[CohortEntry, ...] = ()

    def entry_of(self, cohort: Cohort) -> CohortEntry | None:
        """The entry of an equal population, whenever that began."""
        return next((entry for entry in self.cohorts if entry.cohort.name == cohort.name), None)

    def with_entry(self, entry: CohortEntry) -> "Diary":
        """With this entry in place of the one of the same population, or added."""
        kept = tuple(other for other in self.cohorts if other.cohort.name != entry.cohort.name)
        return Diary(cohorts=(*kept, entry))


def load_diary(data: Path) -> Diary:
    """Empty where nothing was simulated yet. LocalProblem when the file is damaged."""
    try:
        return Diary.model_validate_json((data / DIARY_FILE).read_bytes())
    except FileNotFoundError:
        return Diary()
    except ValueError:
        raise LocalProblem(f"{data / DIARY_FILE} is damaged: move it away, and nobody lives on.") from None


def save_entry(data: Path, entry: CohortEntry) -> None:
    """Notes how far a population has been played. Several programs may write, each about its own population."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_private(data / DIARY_FILE, load_diary(data).with_entry(entry).model_dump_json(indent=1))
