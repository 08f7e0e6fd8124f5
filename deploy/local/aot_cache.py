"""What Java keeps of an earlier start of the broker, so that a later one takes less than half the time.

Since version 25 a JVM can write down at its end which classes it loaded and linked, and begin from there (its
"ahead-of-time cache"). It checks by itself that the cache is of the same Java and the same jars, and does without it
otherwise. The training run is a broker that is started for nothing else, on a folder of its own.
"""

import contextlib
import hashlib
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
TRIAL_LIMIT_S = 60.0
"""How long the trial may take to start, and to end: it writes the cache then, about 65 MB."""


def cache_path(software: kafka.KafkaSoftware) -> Path | None:
    """Where the cache of this Java and these jars is or would be; None if this Java has none.

    Java refuses a cache of jars with another size or time and of another build of itself, and would do so at every
    start: the name holds what it compares.
    """
    home = software.java.resolve().parents[1]
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="((\d+)[^"/]*)"', release, re.MULTILINE)
    if version is None or int(version[2]) < JAVA_MAJOR_MIN:
        return None
    compared = [*sorted(software.jars.glob("*.jar")), *home.glob("lib/modules"), *home.glob("lib/server/libjvm.*")]
    stats = [(path.name, path.stat().st_size, int(path.stat().st_mtime)) for path in compared]
    mark = hashlib.blake2b(repr(stats).encode(), digest_size=4).hexdigest()
    return tools_directory() / f"kafka-{KAFKA_VERSION}-java-{version[1]}-{mark}.aot"


def cache_options(software: kafka.KafkaSoftware) -> list[str]:
    """For the command that starts a broker."""
    path = cache_path(software)
    return [f"-XX:AOTCache={path}"] if path is not None and path.exists() else []


def training_due(software: kafka.KafkaSoftware) -> bool:
    """Whether there is no cache, and none was tried for in vain."""
    path = cache_path(software)
    return (
        path is not None
        and not path.exists()
        and not _failed(path).exists()
        and path.parent.is_dir()
        and os.access(path.parent, os.W_OK)
    )


def _failed(path: Path) -> Path:
    return path.with_suffix(".failed")


async def train(software: kafka.KafkaSoftware, scratch: Path, *, record_in: ProcessFile) -> str:
    """Makes the cache; what went wrong, as the end of a sentence, or nothing. It is not tried again then: the broker
    starts without it too, only slower. `scratch` is emptied first, and kept where it failed."""
    path = cache_path(software)
    assert path is not None
    try:
        problem = await _write_cache(software, scratch, path, record_in=record_in)
    except (LocalProblem, OSError) as error:
        problem = str(error)
    if problem:
        with contextlib.suppress(OSError):
            _failed(path).touch()
        return f"{problem} (remove {_failed(path)} to try again)"
    shutil.rmtree(scratch, ignore_errors=True)
    for other in path.parent.glob("kafka-*-java-*.aot"):
        if other != path:
            other.unlink(missing_ok=True)
    return ""


async def _write_cache(software: kafka.KafkaSoftware, scratch: Path, path: Path, *, record_in: ProcessFile) -> str:
    shutil.rmtree(scratch, ignore_errors=True)
    await in_daemon_thread(lambda: kafka.prepare_kafka(software, scratch))
    port, written = choose_port(), scratch / "written.aot"
    child = kafka.start_kafka(
        software,
        scratch,
        kafka.KafkaSettings(port=port),
        record_in=record_in,
        name="kafka-training",
        java_options=[f"-XX:AOTCacheOutput={written}"],
    )
    try:
        await kafka.wait_for_kafka(child, f"{HOST}:{port}", limit_s=TRIAL_LIMIT_S)
        orderly = await replace(child, grace_s=TRIAL_LIMIT_S).stop()
    finally:
        await replace(child, grace_s=0.0).stop()
    if not orderly or not written.exists():
        return last_lines(child.log, 1) or "Java wrote nothing"
    # Whole at once, and of two that train at the same time the later one stays.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(written, partial)
        with partial.open("rb") as copied:
            os.fsync(copied.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return ""
