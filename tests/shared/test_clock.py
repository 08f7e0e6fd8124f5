"""Clinic time: never backwards unless the wall clock was set back, never far ahead of it, the same in every process,
replaced at once."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from shared import clock
from shared.clock import HELD_MAX, Anchor, AnchoredClock, WallClock, open_clock, read_anchor, write_anchor

WALL = datetime(2026, 11, 23, 12, tzinfo=UTC)
moments = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)).map(lambda age: WALL - age)
anchors = st.builds(
    Anchor,
    clinic_at=moments,
    wall_at=moments,
    speed=st.floats(min_value=0, max_value=1e6),
    limit_at=st.none() | moments,
)
small = st.timedeltas(min_value=-HELD_MAX, max_value=HELD_MAX)
steps = st.lists(small | st.timedeltas(min_value=timedelta(days=-9), max_value=timedelta(days=9)), max_size=30)


class Wall:
    """A wall clock that a test moves."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self, zone: object = None) -> datetime:
        return self.at


@contextmanager
def moved_wall() -> Iterator[Wall]:
    held = Wall(WALL)

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Datetime(datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return held.at

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "datetime", Datetime)
        yield held


@pytest.fixture
def wall() -> Iterator[Wall]:
    with moved_wall() as held:
        yield held


def steps_back() -> float:
    return REGISTRY.get_sample_value("careloop_clock_steps_back_total") or 0.0


@given(steps)
def test_the_wall_clock_is_never_left_behind_nor_ahead_by_more_than_a_moment(steps: list[timedelta]) -> None:
    with moved_wall() as wall:
        held = WallClock()
        before = held.now()
        for step in steps:
            wall.at += step
            told = held.now()
            assert wall.at <= told <= wall.at + HELD_MAX
            assert told >= before or before - told > HELD_MAX, "small steps back are not seen"
            before = told


@given(anchors, steps)
def test_an_anchored_clock_keeps_to_the_wall_too(
    tmp_path_factory: pytest.TempPathFactory, anchor: Anchor, steps: list[timedelta]
) -> None:
    path = tmp_path_factory.mktemp("clock") / "clock.json"
    write_anchor(path, anchor)
    with moved_wall() as wall:
        held, highest = AnchoredClock(path), wall.at
        before = held.now()
        for step in steps:
            wall.at += step
            told, is_set_back = held.now(), highest - wall.at > HELD_MAX
            assert told <= wall.at + HELD_MAX
            assert told >= before or is_set_back
            highest = wall.at if is_set_back else max(highest, wall.at)
            if wall.at == highest:
                assert told == AnchoredClock(path).now(), "as a process tells that has not seen the steps"
            before = told


def test_a_clock_that_was_far_ahead_once_is_followed_back_and_says_so_once(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "clock.json"
    anchored(path, clinic_at=WALL - timedelta(days=84))
    for held, right in ((WallClock(), WALL), (AnchoredClock(path), WALL - timedelta(days=84))):
        assert held.now() == right
        wall.at = WALL + timedelta(hours=1)
        assert held.now() > right
        wall.at, before = WALL, steps_back()
        assert [held.now() for _ in range(3)] == [right] * 3
        assert steps_back() == before + 1


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


def test_an_earlier_anchor_never_takes_it_back_nor_does_a_small_step_of_the_wall(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "clock.json"
    anchored(path, clinic_at=WALL - timedelta(days=10))
    held = AnchoredClock(path)
    before = held.now()
    anchored(path, clinic_at=WALL - timedelta(days=50))
    assert held.now() == before
    path.unlink()
    assert held.now() == WALL
    wall.at = WALL - HELD_MAX
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
