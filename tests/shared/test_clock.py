"""Clinic time: never backwards, the same in every process, never ahead of the wall, replaced at once."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import clock
from shared.clock import Anchor, AnchoredClock, WallClock, open_clock, read_anchor, write_anchor

WALL = datetime(2026, 11, 23, 12, tzinfo=UTC)
moments = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)).map(lambda age: WALL - age)
anchors = st.builds(
    Anchor,
    clinic_at=moments,
    wall_at=moments,
    speed=st.floats(min_value=0, max_value=1e6),
    limit_at=st.none() | moments,
)


class Wall:
    """A wall clock that a test moves."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self, zone: object = None) -> datetime:
        return self.at


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    held = Wall(WALL)

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Datetime(datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return held.at

    monkeypatch.setattr(clock, "datetime", Datetime)
    return held


@given(anchors, moments, st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=900)))
def test_an_anchor_never_runs_backwards_nor_past_the_wall_or_its_limit(
    anchor: Anchor, at: datetime, later: timedelta
) -> None:
    first, second = anchor.at(at), anchor.at(at + later)
    assert first <= second
    assert second <= at + later
    assert anchor.limit_at is None or second <= anchor.limit_at


@given(anchors)
def test_a_file_gives_the_anchor_back(tmp_path_factory: pytest.TempPathFactory, anchor: Anchor) -> None:
    path = tmp_path_factory.mktemp("clock") / "clock.json"
    write_anchor(path, anchor)
    assert read_anchor(path) == anchor


def anchored(path: Path, *, clinic_at: datetime, limit_at: datetime | None = None, speed: float = 60.0) -> None:
    write_anchor(path, Anchor(clinic_at=clinic_at, wall_at=WALL, speed=speed, limit_at=limit_at))


def test_it_runs_fast_from_the_anchor_and_holds_at_the_limit(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "clock.json"
    start = WALL - timedelta(days=84)
    anchored(path, clinic_at=start, limit_at=start + timedelta(hours=3))
    held = AnchoredClock(path)
    assert held.now() == start
    wall.at = WALL + timedelta(minutes=1)
    assert held.now() == start + timedelta(hours=1)
    wall.at = WALL + timedelta(minutes=30)
    assert held.now() == start + timedelta(hours=3)


def test_clinic_time_meets_the_wall_clock_and_stays_with_it(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "clock.json"
    anchored(path, clinic_at=WALL - timedelta(hours=1), speed=61)
    held = AnchoredClock(path)
    wall.at = WALL + timedelta(seconds=30)
    assert held.now() == WALL - timedelta(hours=1) + timedelta(seconds=30 * 61)
    wall.at = WALL + timedelta(minutes=1)
    assert held.now() == wall.at
    wall.at = WALL + timedelta(minutes=9)
    assert held.now() == wall.at
    path.unlink()
    assert held.now() == wall.at


def test_an_earlier_anchor_or_wall_never_takes_it_back(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "clock.json"
    anchored(path, clinic_at=WALL - timedelta(days=10))
    held = AnchoredClock(path)
    before = held.now()
    anchored(path, clinic_at=WALL - timedelta(days=50))
    assert held.now() == before
    path.unlink()
    assert held.now() == WALL
    wall.at = WALL - timedelta(hours=2)
    assert held.now() == WALL
    anchored(path, clinic_at=WALL - timedelta(days=5))
    assert held.now() == WALL
    assert WallClock().now() == wall.at


def test_an_anchor_put_in_place_is_seen_at_once(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "clock.json"
    start = WALL - timedelta(days=84)
    anchored(path, clinic_at=start, limit_at=start)
    held = AnchoredClock(path)
    for step in range(1, 200):
        # Many within one tick of a coarse file clock: each must be noticed all the same.
        limit = start + timedelta(hours=step)
        anchored(path, clinic_at=limit, limit_at=limit)
        assert held.now() == limit


def test_without_a_file_clinic_time_is_the_wall_clock(tmp_path: Path, wall: Wall) -> None:
    assert open_clock(tmp_path / "none.json").now() == WALL
    assert open_clock(None).now() == WALL


def test_every_process_tells_the_same_clinic_time(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    limit = datetime(2026, 8, 31, 6, tzinfo=UTC)
    write_anchor(path, Anchor(clinic_at=limit - timedelta(hours=6), wall_at=limit, speed=1e6, limit_at=limit))
    program = "import sys, pathlib; from shared.clock import open_clock; "
    program += "print(open_clock(pathlib.Path(sys.argv[1])).now())"
    command = [sys.executable, "-c", program, str(path)]
    root = Path(__file__).parents[2]
    told = {subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert told == {f"{AnchoredClock(path).now()}\n"} == {f"{limit}\n"}


def test_a_reader_never_sees_half_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    short = Anchor(clinic_at=WALL, wall_at=WALL, speed=1.0)
    long = Anchor(clinic_at=WALL, wall_at=WALL, speed=0.1234567890123, limit_at=WALL)
    write_anchor(path, short)
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            write_anchor(path, short)
            write_anchor(path, long)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        read: Callable[[], Anchor] = lambda: read_anchor(path)  # noqa: E731
        assert {read() for _ in range(3000)} <= {short, long}
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("text", ["", "{", json.dumps({"speed": 1, "limit_at": None})])
def test_what_is_not_an_anchor_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clock.json"
    path.write_text(text)
    with pytest.raises((ValueError, KeyError)):
        read_anchor(path)
