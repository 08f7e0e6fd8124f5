"""The broker's jars: fetched once through jgo, pinned by SHA-256, kept in the clone."""

import contextlib
import fcntl
import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.local.problems import LocalProblem
from deploy.local.settings import ToolSettings

KAFKA_VERSION = "4.3.1"
# Not log4j-core: its dependency management would pull kafka-clients down to 3.9, and the broker dies of it.
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36@kafka.Kafka"
PINS = Path(__file__).with_name("kafka-jars.sha256")


def tools_directory() -> Path:
    """Where downloaded tools are kept, as the setting says."""
    return ToolSettings().tools or Path(__file__).resolve().parents[2] / ".careloop-tools"


def kafka_jars() -> Path:
    """The folder that holds exactly the pinned jars, downloading them (44 MB) if they are not there yet.

    Raises LocalProblem when they cannot be fetched or are not the pinned ones.
    """
    return fetched_jars(f"kafka-{KAFKA_VERSION}", COORDINATES, PINS)


def fetched_jars(name: str, coordinates: str, pinned: Path) -> Path:
    """As above, for what else these Maven coordinates bring; `pinned` holds the sums of every jar."""
    pins = read_pins(pinned)
    folder = tools_directory() / name
    if not folder.is_dir():
        with _alone(folder):
            if not folder.is_dir():  # somebody else has fetched them meanwhile
                _fetch(coordinates, pins, folder)
    wrong = differences(folder, pins)
    if wrong:
        raise LocalProblem(f"The jars in {folder} are not the pinned ones ({wrong[0]}): remove that folder.")
    return folder


def read_pins(path: Path) -> dict[str, str]:
    """file name -> SHA-256, from lines as `sha256sum` writes them."""
    lines = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: digest for digest, name in lines}


def differences(folder: Path, pins: Mapping[str, str]) -> list[str]:
    """What is missing from, strange in or altered in `folder`, one sentence part each."""
    found = {path.name: path for path in folder.glob("*.jar")}
    wrong = [f"{name} is missing" for name in pins if name not in found]
    wrong += [f"{name} does not belong there" for name in found if name not in pins]
    wrong += [f"{name} was altered" for name, path in found.items() if name in pins and _sha256(path) != pins[name]]
    return wrong


def _sha256(path: Path) -> str:
    with path.open("rb") as jar:
        return hashlib.file_digest(jar, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of several processes that find no jars one fetches them, and the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(coordinates: str, pins: Mapping[str, str], folder: Path) -> None:
    scratch = folder.with_name(f"{folder.name}.fetching")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        resolved = _resolve(coordinates, scratch)
        complete = scratch / "jars"
        complete.mkdir()
        for jar in [*resolved.glob("jars/*.jar"), *resolved.glob("modules/*.jar")]:
            if jar.name in pins:
                shutil.copyfile(jar, complete / jar.name)
        wrong = differences(complete, pins)
        if wrong:
            raise LocalProblem(f"What was downloaded as {folder.name} is not what is pinned: {wrong[0]}.")
        complete.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _resolve(coordinates: str, scratch: Path) -> Path:
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.env import EnvironmentBuilder, LinkStrategy
    from jgo.maven import MavenContext

    # Everything jgo writes stays in the scratch folder: no ~/.m2, no shared cache that another run could alter.
    context = MavenContext(repo_cache=scratch / "repository", remote_repos={"central": MAVEN_CENTRAL_URL})
    builder = EnvironmentBuilder(context=context, cache_dir=scratch / "environments", link_strategy=LinkStrategy.HARD)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return Path(builder.from_endpoint(coordinates).path)
    except OSError as error:
        raise LocalProblem(
            f"{coordinates.partition('+')[0]} could not be downloaded ({type(error).__name__}): "
            "a network is needed the first time."
        ) from error
