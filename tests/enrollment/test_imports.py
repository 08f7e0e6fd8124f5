"""Rosters through HTTP into the database: taken whole or not at all, each rejected row told."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.enrollment.api import imports
from services.enrollment.handlers.apply_roster import apply_roster
from services.enrollment.handlers.receive_roster import receive_roster
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store.imports import REJECTIONS_KEPT_MAX, give_up_abandoned, take_received
from shared.database import open_database
from tests.enrollment.clinic import HEADER, Clinic, roster
from tests.fixtures.databases import add_columns
from tests.fixtures.eventually import eventually

COUNT_TABLES = "select count(*) from pg_tables where tablename ~ '^roster_staging_'"


async def covered(clinic: Clinic) -> dict[str, str | None]:
    """Person -> last covered day."""
    rows = await clinic.rows("select person_id, effective_to::text from coverages order by person_id")
    return {row["person_id"]: row["effective_to"] for row in rows}


async def test_good_rows_are_covered_and_bad_ones_are_told_by_line_field_and_reason(clinic: Clinic) -> None:
    done = await clinic.import_roster(
        "\ufeffperson_id,name,date_of_birth,state,effective_from,effective_to\r\n"
        'E-1,"Doe, Jo",1980-05-17,NY,2026-01-01,\r\n'
        "E-2,x,17.05.1980,NY,2026-01-01,\r\n"
        "E-3,x,1980-05-17,Nowhere,2026-01-01,\r\n"
        "E-4,x,1980-05-17,NY\r\n"
        "\r\n"
        'E-5,"x,1980-05-17,NY,2026-01-01,\r\n'
        "E-1,x,1980-05-17,NJ,2026-01-01,\r\n"
        f"{'E' * 9000}\r\n"
        "E-6,x,1980-05-17,nj,2026-01-01,2026-06-30"
    )
    assert done["state"] == "applied"
    assert done["ignored_columns"] == ["name"]
    assert [(r["line"], r["field"], r["reason"]) for r in done["rejections"]] == [
        (3, "date_of_birth", "not-a-date-YYYY-MM-DD"),
        (4, "state", "not-a-state"),
        (5, "row", "wrong-number-of-fields"),
        (7, "row", "unclosed-quote"),
        (8, "person_id", "same-person-twice"),
        (9, "row", "too-long"),
    ]
    assert done["rows"] == {"read": 8, "accepted": 2, "rejected": 6}
    assert done["persons"] == {"added": 2, "changed": 0, "unchanged": 0, "ended": 0}
    assert await covered(clinic) == {"E-1": None, "E-6": "2026-06-30"}
    assert (await clinic.rows("select state from coverages where person_id = 'E-1'"))[0]["state"] == "NY"
    assert (await clinic.rows(COUNT_TABLES))[0]["count"] == 0


async def test_columns_of_the_next_release_change_nothing_for_a_file(clinic: Clinic) -> None:
    await add_columns(clinic.running.service.database)
    done = await clinic.import_roster(roster("E-1", "E-2"))
    assert done["state"] == "applied"
    assert list(await covered(clinic)) == ["E-1", "E-2"]


async def test_a_latin_1_row_is_rejected_and_its_neighbours_are_taken(clinic: Clinic) -> None:
    content = (
        roster("E-1").encode()
        + "É-2,1980-05-17,NY,2026-01-01,\n".encode("latin-1")
        + roster("E-3").encode()[len(HEADER) :]
    )
    done = await clinic.import_roster(content)
    assert [(r["line"], r["reason"]) for r in done["rejections"]] == [(3, "wrong-encoding")]
    assert list(await covered(clinic)) == ["E-1", "E-3"]


NO_ROSTERS: list[tuple[str | bytes, str, str]] = [
    ("", "file", "empty"),
    ("\n\n", "file", "empty"),
    (HEADER, "file", "no-rows"),
    (HEADER + "E-1,x,NY,2026-01-01,\n", "file", "no-row-can-be-taken"),
    ("person_id,date_of_birth,state\nE-1,1980-05-17,NY\n", "effective_from", "column-missing"),
    (HEADER.replace("state", "person_id"), "person_id", "column-twice"),
    (roster("E-1").encode("utf-16"), "header", "wrong-encoding"),
    ("x" * 20_000, "header", "too-long"),
    (roster("E-1").replace("\n", "\r"), "file", "no-rows"),
]


async def test_a_file_that_is_no_roster_is_refused_as_a_whole(clinic: Clinic) -> None:
    for content, field, reason in NO_ROSTERS:
        answer = await clinic.upload(content, mode="full")
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"] == [{"field": field, "message": reason}]
    assert await covered(clinic) == {}
    assert (await clinic.rows(COUNT_TABLES))[0]["count"] == 0


async def test_a_file_with_fewer_rows_than_announced_changes_nothing(clinic: Clinic) -> None:
    answer = await clinic.upload(roster("E-1", "E-2"), rows=3)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "rows", "message": "not-as-many-as-announced"}]
    assert await covered(clinic) == {}


async def test_an_upload_that_breaks_off_changes_nothing_and_is_told(clinic: Clinic) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield roster(*(f"E-{n}" for n in range(5_000))).encode()
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await receive_roster(
            clinic.running.service.database,
            blocks=cut(),
            import_id=uuid4(),
            sponsor_id=clinic.sponsor_id,
            mode="full",
            rows_announced=None,
            received_by="test",
            now=clinic.clock.now(),
        )
    body = (await clinic.call("GET", f"/v1/sponsors/{clinic.sponsor_id}/imports")).json()
    assert [(each["state"], each["reason"]) for each in body["imports"]] == [("failed", "upload-interrupted")]
    assert (await clinic.rows(COUNT_TABLES))[0]["count"] == 0


async def test_a_full_file_ends_the_coverage_of_whom_it_leaves_out(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1", "E-2", "E-3") + "E-9,1980-05-17,NY,2026-06-01,\n")
    done = await clinic.import_roster(roster("E-2", "E-4"), mode="full")
    assert done["persons"] == {"added": 1, "changed": 0, "unchanged": 1, "ended": 3}
    # E-9 had not started: withdrawn, not covered for a day in June.
    assert await covered(clinic) == {
        "E-1": "2026-03-02",
        "E-2": None,
        "E-3": "2026-03-02",
        "E-4": None,
        "E-9": "2026-05-31",
    }
    again = await clinic.import_roster(roster("E-1", "E-2", "E-3", "E-4"), mode="full")
    assert again["persons"] == {"added": 0, "changed": 2, "unchanged": 2, "ended": 0}


async def test_a_person_whose_row_was_rejected_is_not_taken_for_absent(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1", "E-2"))
    done = await clinic.import_roster(roster("E-1") + "E-2,1980-05-17,NY,soon,\n", mode="full")
    assert done["state"] == "applied"
    assert await covered(clinic) == {"E-1": None, "E-2": None}


async def test_a_truncated_full_file_is_held_until_somebody_confirms(clinic: Clinic) -> None:
    await clinic.import_roster(roster(*(f"E-{n}" for n in range(40))))
    held = await clinic.import_roster(roster(*(f"E-{n}" for n in range(20))), mode="full")
    assert (held["state"], held["reason"]) == ("held", "too-many-absent")
    assert set((await covered(clinic)).values()) == {None}
    path = f"/v1/imports/{held['import_id']}/confirm"
    assert (await clinic.call("POST", path, clinic.tokens.person("somebody", "sponsor-admin"))).status_code == 404
    assert (await clinic.call("POST", path, clinic.tokens.person("mills-hr", "sponsor-admin"))).status_code == 200
    done = await clinic.finished(held["import_id"])
    assert (done["state"], done["confirmed_by"], done["persons"]["ended"]) == ("applied", "mills-hr", 20)
    assert (await clinic.call("POST", path)).json()["type"] == "urn:careloop:problem:not-held"


async def test_rows_that_nobody_can_read_hold_a_full_file_back(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1", "E-2"))
    held = await clinic.import_roster(roster("E-1") + ",1980-05-17,NY,2026-01-01,\n", mode="full")
    assert (held["state"], held["reason"]) == ("held", "unreadable-rows")
    answer = await clinic.call("POST", f"/v1/imports/{held['import_id']}/discard")
    assert answer.json()["state"] == "discarded"
    assert await covered(clinic) == {"E-1": None, "E-2": None}
    assert (await clinic.rows(COUNT_TABLES))[0]["count"] == 0


async def test_a_newer_file_replaces_one_that_is_held(clinic: Clinic) -> None:
    await clinic.import_roster(roster(*(f"E-{n}" for n in range(40))))
    held = await clinic.import_roster(roster("E-1"), mode="full")
    await clinic.import_roster(roster("E-77"))
    assert (await clinic.finished(held["import_id"]))["state"] == "replaced"
    assert (await clinic.call("POST", f"/v1/imports/{held['import_id']}/confirm")).status_code == 409


async def test_a_held_file_that_is_confirmed_while_a_newer_one_is_applied_goes_over_nothing(clinic: Clinic) -> None:
    await clinic.import_roster(roster(*(f"E-{n}" for n in range(40))))
    held = await clinic.import_roster(roster("E-1"), mode="full")
    assert held["state"] == "held"
    path = f"/v1/imports/{held['import_id']}/confirm"
    async with clinic.database() as connection, connection.transaction():
        # The newer file is applied up to here, where it waits for the person's row.
        await connection.execute("select from coverages where person_id = 'E-7' for update")
        newer = (await clinic.upload(roster("E-7", state="NJ"))).json()["import_id"]

        async def is_under_way() -> bool:
            who = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            return bool(await clinic.rows(who))

        await eventually(is_under_way, what="the newer file is being applied")
        assert (await clinic.call("POST", path)).status_code == 200
    assert (await clinic.finished(newer))["state"] == "applied"
    assert (await clinic.finished(held["import_id"]))["state"] == "replaced"
    assert set((await covered(clinic)).values()) == {None}
    assert (await clinic.rows(COUNT_TABLES))[0]["count"] == 0


async def test_rejections_come_in_pages_and_all_are_counted(clinic: Clinic) -> None:
    bad = REJECTIONS_KEPT_MAX + 5
    done = await clinic.import_roster(roster("E-1") + "X,,,,\n" * bad)
    assert done["rows"]["rejected"] == bad
    assert len(done["rejections"]) == 100
    page = (
        await clinic.call("GET", f"/v1/imports/{done['import_id']}", params={"after_line": done["next"], "limit": 2})
    ).json()
    assert [each["line"] for each in page["rejections"]] == [103, 104]
    kept = await clinic.rows("select count(*), max(line) from roster_rejections")
    assert tuple(kept[0]) == (REJECTIONS_KEPT_MAX, REJECTIONS_KEPT_MAX + 2)


async def test_an_apply_that_fails_half_way_leaves_the_roster_as_it_was(clinic: Clinic) -> None:
    """A bug or a crash in the middle: all of it is taken back, and the file is still there to be applied."""
    await clinic.import_roster(roster("E-1", "E-2"))
    async with clinic.database() as connection:
        await connection.execute(
            "create function fail() returns trigger language plpgsql as $$ begin raise 'broken'; end $$;"
            "create trigger fail before update of state on roster_imports for each row"
            " when (new.state = 'applied') execute function fail()"
        )
    answer = await clinic.upload(roster("E-2", "E-3"), mode="full")
    with pytest.raises(asyncpg.RaiseError):
        await apply_alone(clinic)
    assert await covered(clinic) == {"E-1": None, "E-2": None}
    assert (await clinic.call("GET", f"/v1/imports/{answer.json()['import_id']}")).json()["state"] == "received"
    async with clinic.database() as connection:
        await connection.execute("drop trigger fail on roster_imports")
    assert (await clinic.finished(answer.json()["import_id"]))["state"] == "applied"
    assert await covered(clinic) == {"E-1": "2026-03-02", "E-2": None, "E-3": None}


async def test_a_file_that_always_fails_holds_up_its_own_sponsor_alone(clinic: Clinic) -> None:
    async with clinic.database() as connection:
        await connection.execute(
            "create function fail() returns trigger language plpgsql as $$ begin raise 'broken'; end $$;"
            "create trigger fail before update of state on roster_imports for each row"
            f" when (new.state = 'applied' and new.sponsor_id = '{clinic.sponsor_id}') execute function fail()"
        )
    broken, behind = [(await clinic.upload(roster("E-1", state=state))).json()["import_id"] for state in ("NY", "NJ")]
    other = await clinic.add_sponsor()
    assert (await clinic.import_roster(roster("E-3"), sponsor_id=other))["state"] == "applied"
    assert await covered(clinic) == {"E-3": None}
    async with clinic.database() as connection:
        await connection.execute("drop trigger fail on roster_imports")
    assert [(await clinic.finished(one))["state"] for one in (behind, broken)] == ["applied", "applied"]
    assert (await clinic.rows("select state from coverages where person_id = 'E-1'"))[0]["state"] == "NJ"


async def apply_alone(clinic: Clinic) -> None:
    """One attempt to apply, by a replica of our own that waits for its turn."""
    pool = await open_database(clinic.running.database_url, connections=2, application="test")
    try:
        while True:
            async with pool.acquire() as connection, connection.transaction():
                guard = EnrollmentSettings.model_construct().import_guard
                if (taken := await take_received(connection)) is not None:
                    return await apply_roster(connection, taken, guard=guard, now=clinic.clock.now())
            await asyncio.sleep(0)
    finally:
        await pool.close()


async def test_rows_lost_in_a_crash_of_the_database_fail_the_file_and_end_nobody(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1", "E-2"))
    async with clinic.database() as connection:
        # An unlogged table is emptied by crash recovery.
        await connection.execute(
            "create function lose() returns trigger language plpgsql as $$ begin"
            " execute format('truncate roster_staging_%s', replace(new.import_id::text, '-', '')); return new; end $$;"
            "create trigger lose after update of state on roster_imports for each row"
            " when (new.state = 'received') execute function lose()"
        )
    done = await clinic.import_roster(roster("E-3"), mode="full")
    assert (done["state"], done["reason"]) == ("failed", "rows-lost-send-again")
    assert await covered(clinic) == {"E-1": None, "E-2": None}


async def test_an_upload_whose_process_died_is_given_up(clinic: Clinic) -> None:
    applied, died = [(await clinic.import_roster(roster(person)))["import_id"] for person in ("E-1", "E-2")]
    async with clinic.database() as connection:
        await connection.execute("update roster_imports set started_at = clock_timestamp() - interval '3 hours'")
        await connection.execute("update roster_imports set state = 'receiving' where import_id = $1", UUID(died))
        assert await give_up_abandoned(connection, older_s=3600, now=clinic.clock.now()) == 1
    body = (await clinic.call("GET", f"/v1/imports/{died}")).json()
    assert (body["state"], body["reason"]) == ("failed", "upload-interrupted")
    assert (await clinic.finished(applied))["state"] == "applied"


async def test_who_may_send_a_roster(clinic: Clinic) -> None:
    tokens = clinic.tokens
    for token, status in (
        (tokens.person("mills-hr", "sponsor-admin"), 202),
        (tokens.operator, 202),
        (tokens.person("other-hr", "sponsor-admin"), 404),
        (tokens.app, 403),
        (tokens.coach(uuid4()), 403),
    ):
        answer = await clinic.upload(roster("E-1"), token=token)
        assert answer.status_code == status, answer.text
    answer = await clinic.client.post(f"/v1/sponsors/{clinic.sponsor_id}/imports", params={"mode": "full"})
    assert answer.status_code == 401
    unknown = await clinic.call(
        "POST",
        f"/v1/sponsors/{uuid4()}/imports",
        params={"mode": "full"},
        content="x",
        headers={"content-type": "text/csv"},
    )
    assert unknown.status_code == 404


NO_UPLOADS: list[tuple[dict[str, str], dict[str, str], int]] = [
    ({"mode": "all"}, {}, 422),
    ({}, {}, 422),
    ({"mode": "full", "rows": "0"}, {}, 422),
    ({"mode": "full"}, {"content-type": "application/json"}, 415),
    ({"mode": "full"}, {"content-encoding": "gzip"}, 415),
]


async def test_a_request_that_is_no_upload_is_a_problem(clinic: Clinic) -> None:
    for query, headers, status in NO_UPLOADS:
        answer = await clinic.call(
            "POST",
            f"/v1/sponsors/{clinic.sponsor_id}/imports",
            params=query,
            content=roster("E-1"),
            headers={"content-type": "text/csv", **headers},
        )
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_page_beyond_all_numbers_is_a_problem(clinic: Clinic) -> None:
    done = await clinic.import_roster(roster("E-1"))
    for path in (f"/v1/sponsors/{clinic.sponsor_id}/imports?before", f"/v1/imports/{done['import_id']}?after_line"):
        assert (await clinic.call("GET", f"{path}={2**63}")).status_code == 422


def many_rows(count: int) -> Iterator[bytes]:
    yield HEADER.encode()
    for start in range(0, count, 500):
        yield "".join(f"E-{n},1980-05-17,NY,2026-01-01,\n" for n in range(start, min(start + 500, count))).encode()


async def test_two_hundred_thousand_rows_stream_through_in_bounded_memory(clinic: Clinic) -> None:
    """Held in memory, this file and its rows would be over 40 MB."""

    async def blocks() -> AsyncIterator[bytes]:
        for block in many_rows(200_000):
            yield block

    import_id = uuid4()
    tracemalloc.start()
    refusal = await receive_roster(
        clinic.running.service.database,
        blocks=blocks(),
        import_id=import_id,
        sponsor_id=clinic.sponsor_id,
        mode="full",
        rows_announced=200_000,
        received_by="test",
        now=datetime(2026, 3, 2, tzinfo=UTC),
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refusal is None
    assert peak < 8_000_000, f"{peak / 1e6:.1f} MB"
    done = await clinic.finished(str(import_id))
    assert (done["state"], done["persons"]["added"]) == ("applied", 200_000)


async def test_more_uploads_than_the_database_should_hold_open_are_told_to_come_back(clinic: Clinic) -> None:
    async with contextlib.AsyncExitStack() as others:
        for _ in range(imports.UPLOADS_MAX):
            await others.enter_async_context(imports._uploads)
        answer = await clinic.upload(roster("E-1"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert (await clinic.upload(roster("E-1"))).status_code == 202
