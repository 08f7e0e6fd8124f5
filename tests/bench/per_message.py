"""What most would write: a FastStream handler with a transaction per message, tuned as far as that shape allows."""

import gc
import os

import uvloop
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from shared.clock import WallClock
from shared.database import Database, open_database
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder
from shared.settings import ServiceSettings
from shared.topics import topic_name
from tests.bench.job import TOPIC
from tests.bench.loop import ENSURE, JOBS, take

GROUP = "bench.loop"
"""The same books as the loop's, so that progress is read in the same way."""
settings = ServiceSettings()
run, table = JOBS[os.environ["BENCH_JOB"]]
broker = KafkaBroker(settings.kafka_bootstrap, apply_types=False, logger=None)
decoder, clock = Decoder(TOPIC_OF[TOPIC]), WallClock()
database: Database
LOCK = f"select member_id from {table} where member_id = any($1::uuid[]) for update"


async def raw(message: KafkaMessage) -> object:
    return message.raw_message


@broker.subscriber(
    topic_name(settings.namespace, TOPIC), group_id=f"{settings.namespace}.bench.message.{os.environ['BENCH_RUN']}",
    auto_offset_reset="earliest", ack_policy=AckPolicy.NACK_ON_ERROR, decoder=raw,
)  # fmt: skip
async def follow_one(record: object) -> None:
    async with database.acquire() as connection:
        await take(connection, [record], decoder, run, LOCK, clock.now())


async def main() -> None:
    global database
    database = await open_database(settings.database_url.get_secret_value(), connections=2, application="bench message")
    await database.execute(ENSURE, GROUP, TOPIC, list(range(64)))
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    uvloop.run(main())
