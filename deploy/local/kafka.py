"""One Apache Kafka broker (KRaft, broker and controller in one process) for one machine."""

import asyncio
import base64
import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from deploy.local.jars import kafka_jars
from deploy.local.java import find_java
from deploy.local.ports import HOST, choose_port
from deploy.local.problems import LocalProblem
from deploy.local.processes import POLL_S, Child, ProcessFile, last_lines, open_log, run_tool, start_child
from shared.topics import TIMESTAMP_AGE_MAX

START_LIMIT_S = 120.0
STOP_SIGNAL = signal.SIGTERM
STOP_GRACE_S = 10.0  # it writes its snapshot; cut short, it only takes longer to start the next time


@dataclass(frozen=True, kw_only=True)
class KafkaSettings:
    port: int
    heap_mb: int = 512
    is_optimised: bool = False
    """With both of Java's compilers, as a broker that runs for months: a start takes twice the processor time, and a
    request less of it once the second compiler is done."""


@dataclass(frozen=True, kw_only=True)
class KafkaSoftware:
    """The Java to run and the folder of the pinned jars."""

    java: Path
    jars: Path


def find_software() -> KafkaSoftware:
    """Fetches the jars if they are not there yet; both are looked at, which takes tenths of a second. Raises
    LocalProblem."""
    return KafkaSoftware(java=find_java(), jars=kafka_jars())


def broker_properties(
    *, listener_port: int, advertised_port: int, controller_port: int, host: str = HOST
) -> dict[str, str]:
    """The broker's settings, those of one node that keeps its data; also used by the container image.

    Replication factors are 1 as there is one node. Topics are created by the catalogue, never by a typing mistake.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENT://{host}:{listener_port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{advertised_port}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "auto.create.topics.enable": "false",
        "num.partitions": "6",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.num.partitions": "8",
        "transaction.state.log.min.isr": "1",
        # Nobody of ours begins one; what an app leaves open holds up whoever is behind it.
        "transaction.max.timeout.ms": "60000",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A laptop that was shut for weeks must find its positions again: the default forgets them after seven days.
        "offsets.retention.minutes": str(400 * 24 * 60),
        "log.segment.bytes": str(64 * 1024 * 1024),
        # As each topic of the catalogue has it; one from the future is refused by Kafka's default of one hour.
        "log.message.timestamp.before.max.ms": str(TIMESTAMP_AGE_MAX // timedelta(milliseconds=1)),
        "message.max.bytes": str(1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "controlled.shutdown.enable": "true",
    }


def properties_text(properties: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def prepare_kafka(software: KafkaSoftware, folder: Path) -> None:
    """What may take long or fail before a port is needed: the formatted log directory."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "log" / "meta.properties").exists():
        return
    # Paths inside are relative to the working directory: a comma or a space in the path would split `log.dirs`.
    _write_properties(folder, port=choose_port())
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    if cluster_id.startswith("-"):
        cluster_id = f"A{cluster_id[1:]}"  # the tool would read it as an option
    command: list[str | Path] = [
        software.java,
        "-cp",
        f"{software.jars}/*",
        "kafka.tools.StorageTool",
        "format",
        "-t",
        cluster_id,
        "-c",
        "broker.properties",
    ]
    done = run_tool(command, name="Kafka's StorageTool", cwd=folder, limit_s=60)
    if done.returncode != 0:
        with open_log(folder / "broker.log") as log:
            log.write((done.stdout + done.stderr).encode())
        raise LocalProblem(f"Kafka's data in {folder} could not be created: {_reason(folder)}")


def _write_properties(folder: Path, *, port: int) -> None:
    properties = broker_properties(listener_port=port, advertised_port=port, controller_port=choose_port())
    partial = folder / "broker.properties.partial"
    partial.write_text(properties_text({**properties, "log.dirs": "log"}))
    partial.replace(folder / "broker.properties")


def start_kafka(
    software: KafkaSoftware,
    folder: Path,
    settings: KafkaSettings,
    *,
    record_in: ProcessFile,
    name: str = "kafka",
    java_options: Sequence[str] = (),
) -> Child:
    _write_properties(folder, port=settings.port)
    command: list[str | Path] = [
        software.java,
        *java_options,
        f"-Xmx{settings.heap_mb}m",
        "-XX:+UseSerialGC",
        # Else only the quick one of two compilers: half the processor time of a start.
        *(() if settings.is_optimised else ("-XX:TieredStopAtLevel=1",)),
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.logFile=System.out",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
        "-cp",
        f"{software.jars}/*",
        "kafka.Kafka",
        "broker.properties",
    ]
    # An inherited option or agent of the user's own Java could change or break the broker.
    env = {name: value for name, value in os.environ.items() if name not in {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"}}
    return start_child(
        command,
        name=name,
        log=folder / "broker.log",
        record_in=record_in,
        cwd=folder,
        env=env,
        stop_signal=STOP_SIGNAL,
        grace_s=STOP_GRACE_S,
    )


async def wait_for_kafka(
    child: Child | None,
    bootstrap: str,
    *,
    security: Mapping[str, Any] | None = None,
    limit_s: float = START_LIMIT_S,
) -> None:
    """Until the broker answers a metadata request. Raises LocalProblem if it ends or takes too long."""
    deadline = time.monotonic() + limit_s
    while not await kafka_answers(bootstrap, security=security):
        if child is not None and not child.running:
            raise LocalProblem(f"Kafka ended while it started: {_reason(child.log.parent)} (see {child.log}).")
        if time.monotonic() > deadline:
            where = f"see {child.log}" if child else bootstrap
            raise LocalProblem(f"Kafka did not answer within {limit_s:.0f} s ({where}).")
        await asyncio.sleep(POLL_S)


async def kafka_answers(bootstrap: str, *, security: Mapping[str, Any] | None = None, limit_s: float = 3.0) -> bool:
    """True if a broker at `bootstrap` tells of a live broker."""
    from aiokafka.client import AIOKafkaClient

    host, _, port = bootstrap.split(",")[0].rpartition(":")
    try:  # a bare connection first: the client logs an error for every refused one
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), limit_s)
        writer.close()
    except (OSError, TimeoutError):
        return False
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=int(limit_s * 1000), **(security or {}))
    try:
        await asyncio.wait_for(client.bootstrap(), limit_s)
        return bool(client.cluster.brokers())
    except Exception:  # aiokafka raises several unrelated types while a broker starts
        return False
    finally:
        await client.close()


def _reason(folder: Path) -> str:
    lines = last_lines(folder / "broker.log", 40).splitlines()
    telling = [line for line in lines if "Exception" in line or "Error" in line]
    return (telling or lines or ["it said nothing"])[-1].strip()[:300]
