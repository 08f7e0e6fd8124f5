"""The embedded servers where a clone may be: a path with a space, a very long one, one closed to others, any user."""

import json
import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import typer

from deploy.cli.stack import up
from deploy.local import as_user
from deploy.local import servers as local_servers
from deploy.local.kafka import broker_properties, find_software, kafka_answers
from deploy.local.ports import HOST, KEPT_MAX, choose_port, require_free_port
from deploy.local.problems import LocalProblem
from deploy.local.processes import ProcessFile, start_child
from deploy.local.servers import embedded_servers, lock_data, require_space
from deploy.local.valkey import valkey_answers
from shared.events.catalogue import TOPICS
from shared.topics import topic_settings
from tests.fixtures.eventually import eventually
from tests.fixtures.topics import admin_client

LONG = Path(*(["a folder whose name is long enough to make paths unwieldy"] * 9))


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder as mkdtemp makes it: closed to everyone but us."""
    with tempfile.TemporaryDirectory(prefix="careloop test ") as folder:
        yield Path(folder)


def test_no_port_is_chosen_twice_before_anybody_listens_there() -> None:
    """Given a program that chooses all its ports first, then no two of them are the same."""
    chosen = [choose_port() for _ in range(KEPT_MAX)]
    assert len(set(chosen)) == len(chosen)


def test_no_other_process_chooses_a_port_at_which_its_server_does_not_listen_yet() -> None:
    """Given two programs that start their servers side by side, then each has its own port, and can listen there."""
    port = choose_port()
    first_tried = f"import deploy.local.ports as p; p.CHOSEN_FROM = range({port}, {port + 50}); p.TRIES_MAX = 50\n"
    other = subprocess.run(
        [sys.executable, "-c", first_tried + "print([p.choose_port() for _ in range(20)])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(found := json.loads(other.stdout)) == 20
    assert port not in found
    with socket.create_server((HOST, port)), pytest.raises(LocalProblem, match=str(port)):
        require_free_port(port, what="Kafka", setting="CARELOOP_KAFKA_PORT")


def test_the_broker_refuses_records_of_the_age_that_its_topics_refuse() -> None:
    of_broker = broker_properties(listener_port=1, advertised_port=1, controller_port=2)
    of_topic = topic_settings(TOPICS[0], replication=1)
    age = "message.timestamp.before.max.ms"
    assert of_broker[f"log.{age}"] == of_topic[age]


@pytest.mark.stack
async def test_a_second_start_finds_what_the_first_wrote_in_a_long_closed_path_with_spaces(closed_folder: Path) -> None:
    data = closed_folder / LONG / "data"
    async with embedded_servers(data=data) as servers:
        connection = await asyncpg.connect(servers.postgres_url)
        await connection.execute("create table kept as select 41 + 1 as answer")
        settings = {
            row["name"]: row["setting"] for row in await connection.fetch("select name, setting from pg_settings")
        }
        await connection.close()
        async with admin_client(servers.kafka_bootstrap) as admin:
            assert await admin.list_topics() == []
    assert (settings["fsync"], settings["full_page_writes"], settings["listen_addresses"]) == ("on", "on", "127.0.0.1")
    assert settings["log_error_verbosity"] == "terse"  # details of errors hold members' data
    assert not await kafka_answers(servers.kafka_bootstrap)
    assert not await valkey_answers(servers.valkey_url)
    assert (data / "processes.json").read_text() == "{}"
    async with embedded_servers(data=data) as servers:
        connection = await asyncpg.connect(servers.postgres_url)
        assert await connection.fetchval("select answer from kept") == 42
        await connection.close()
    assert closed_folder.stat().st_mode & 0o077 == 0  # nothing was opened to others for it


STOPS_ALONE = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('stopping').touch(), sys.exit()))
print('up', flush=True)
signal.pause()
"""
STOPS_AFTER_THE_OTHER = """
import pathlib, signal, sys, time
def stop(*_):
    while not pathlib.Path('stopping').exists():
        time.sleep(0.01)
    sys.exit()
signal.signal(signal.SIGTERM, stop)
print('up', flush=True)
signal.pause()
"""


async def test_no_server_waits_for_another_to_stop(tmp_path: Path) -> None:
    """Each has the whole time that is left: a busy database needs it."""
    record, said = ProcessFile(path=tmp_path / "processes.json"), list[str]()
    servers = local_servers.EmbeddedServers(
        data=tmp_path, choices=local_servers.ServerChoices(), record=record, report=said.append
    )
    for name, script in {"postgres": STOPS_AFTER_THE_OTHER, "kafka": STOPS_ALONE}.items():
        servers.children[name] = start_child(
            [sys.executable, "-c", script],
            name=name,
            log=tmp_path / f"{name}.log",
            record_in=record,
            cwd=tmp_path,
            grace_s=20,
        )
    await eventually(lambda: all((tmp_path / f"{name}.log").read_text() == "up\n" for name in servers.children))
    await servers.stop()
    assert sorted(said) == ["kafka stopped", "postgres stopped"]
    assert servers.children == {}


@pytest.mark.stack
async def test_a_password_is_asked_for(closed_folder: Path) -> None:
    async with embedded_servers(data=closed_folder) as servers:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(servers.postgres_url.replace("postgres:", "postgres:not"))
        assert not await valkey_answers(servers.valkey_url.replace("://:", "://:not"))


@pytest.mark.stack
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_an_ordinary_user_needs_no_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    user = pwd.getpwnam("nobody")
    find_software()  # beside the code, where this user only reads: fetched by whoever owns it
    with tempfile.TemporaryDirectory(prefix="careloop-ordinary-") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        script = (
            "import asyncio, pathlib, sys, os\n"
            "from deploy.local.servers import embedded_servers\n"
            "async def main():\n"
            "    async with embedded_servers(data=pathlib.Path(sys.argv[1])) as servers:\n"
            "        print('up as', os.geteuid())\n"
            "asyncio.run(main())\n"
        )
        # The interpreter itself may lie in root's home: then this user may pass through folders, and no more than that.
        program = Path(sys.executable).resolve()
        needed = as_user.needed_capability([program], uid=user.pw_uid, gid=user.pw_gid, programs=[])
        capability = "" if needed is None else str(needed)
        become = [sys.executable, as_user.__file__, str(user.pw_uid), str(user.pw_gid), capability, "--"]
        done = subprocess.run(
            [*become, sys.executable, "-c", script, f"{folder}/data"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "HOME": folder},
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert done.stdout == f"up as {user.pw_uid}\n", done.stderr


def test_a_second_copy_on_the_same_data_is_refused(tmp_path: Path) -> None:
    held = lock_data(tmp_path)
    with pytest.raises(LocalProblem, match="Another copy already runs on"):
        lock_data(tmp_path)
    os.close(held)
    os.close(lock_data(tmp_path))


def test_a_full_disk_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local_servers, "FREE_BYTES_MIN", 2**62)
    with pytest.raises(LocalProblem, match=r"has \d+ MB free"):
        require_space(tmp_path)
    with pytest.raises(typer.Exit):
        up(tmp_path / "data", detach=True)
    assert re.match(r"careloop: The disk that holds .* has \d+ MB free", capsys.readouterr().err)
    assert list((tmp_path / "data").iterdir()) == []
