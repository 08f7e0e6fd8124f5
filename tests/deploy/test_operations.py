"""What docs/operations.md tells to run does what it says; the metrics and settings it names are there."""

import asyncio
import re
import subprocess
from pathlib import Path

import asyncpg

from shared.events.catalogue import TOPICS
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory, admin_client

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


async def test_its_script_makes_topics_and_tables(
    servers: RunningServers, database: DatabaseFactory, topics: TopicFactory, namespace: str
) -> None:
    (script,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    url = await database(None)
    script = script.replace("kafka.example.org:9092", servers.kafka_bootstrap)
    script = script.replace("replication=3", f"replication=1, namespace='{namespace}'")
    script = re.sub(r"postgresql://[^\"]+", url, script)

    for _ in range(2):  # it says that it may be run again
        await asyncio.to_thread(subprocess.run, ["bash", "-euc", script], cwd=ROOT, check=True, timeout=60)

    async with admin_client(servers.kafka_bootstrap) as admin:
        assert {f"{namespace}.{topic.name}" for topic in TOPICS} <= set(await admin.list_topics())
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select count(*) from care_plans") == 0
    await connection.close()


def test_every_metric_and_setting_that_it_names_is_there() -> None:
    reference = ROOT / "docs" / "reference"
    known = (reference / "metrics.md").read_text("utf-8") + (reference / "settings.md").read_text("utf-8")
    named = set(re.findall(r"`((?:careloop_|CARELOOP_)\w+)`", PAGE))
    assert len(named) > 10
    assert sorted(name for name in named if f"`{name}`" not in known) == []
