"""What Java keeps of an earlier start of the broker, so that a later one takes less than half the time.

Since version 25 a JVM can write down at its end which classes it loaded and linked, and begin from there (its
"ahead-of-time cache"). It checks by itself that the cache is of the same Java and the same jars, and does without it
otherwise. The training run is a broker that is started for nothing else, on a folder of its own.
"""

import os
import re
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

from deploy.local import kafka
from deploy.local.jars import KAFKA_VERSION, tools_directory
from deploy.local.ports import HOST, choose_port
from deploy.local.problems import LocalProblem
from deploy.local.processes import ProcessFile, in_daemon_thread, last_lines

JAVA_MAJOR_MIN = 25
WRITE_LIMIT_S = 120.0
"""How long the JVM may take to end: it writes the cache then, about 65 MB."""


def cache_path(java: Path) -> Path | None:
    """Where the cache of this Java is or would be; None if this Java has none."""
    try:
        release = (java.resolve().parents[1] / "release").read_text()
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="((\d+)[^"/]*)"', release, re.MULTILINE)
    if version is None or int(version[2]) < JAVA_MAJOR_MIN:
        return None
    return tools_directory() / f"kafka-{KAFKA_VERSION}-java-{version[1]}.aot"


def cache_options(java: Path) -> list[str]:
    """For the command that starts a broker."""
    path = cache_path(java)
    return [f"-XX:AOTCache={path}"] if path is not None and path.exists() else []


def training_due(java: Path) -> bool:
    path = cache_path(java)
    return path is not None and not path.exists() and os.access(path.parent, os.W_OK)


async def train(software: kafka.KafkaSoftware, scratch: Path, *, record_in: ProcessFile) -> str:
    """Makes the cache; what went wrong, as the end of a sentence, or nothing. `scratch` is removed again.

    The broker starts without it too, only slower, so that a failure here is told and holds nothing up.
    """
    path = cache_path(software.java)
    assert path is not None
    written = scratch / "written.aot"
    try:
        await in_daemon_thread(lambda: kafka.prepare_kafka(software, scratch))
        port = choose_port()
        child = kafka.start_kafka(
            software,
            scratch,
            kafka.KafkaSettings(port=port),
            record_in=record_in,
            name="kafka-training",
            java_options=[f"-XX:AOTCacheOutput={written}"],
        )
        try:
            await kafka.wait_for_kafka(child, f"{HOST}:{port}")
            orderly = await replace(child, grace_s=WRITE_LIMIT_S).stop()
        finally:
            await replace(child, grace_s=0.0).stop()
        if not orderly or not written.exists():
            return last_lines(child.log, 1) or "Java wrote nothing"
        # Whole at once, and of two that train at the same time the later one stays.
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        shutil.copyfile(written, partial)
        partial.replace(path)
        return ""
    except (LocalProblem, OSError) as problem:
        return str(problem)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
