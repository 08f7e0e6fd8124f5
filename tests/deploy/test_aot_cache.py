"""The broker starts from what Java wrote down of a trial; where that cannot be had, it starts all the same."""

import sys
from pathlib import Path

import pytest

from deploy.local import aot_cache, kafka
from deploy.local.ports import HOST, choose_port
from deploy.local.processes import ProcessFile

ON_LINUX = sys.platform == "linux"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setattr(aot_cache, "tools_directory", lambda: folder)
    return folder


def software_of(folder: Path, version: str, script: str = "exit 1") -> kafka.KafkaSoftware:
    java = folder / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    (folder / "java" / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n')
    jars = folder / "jars"
    jars.mkdir()
    (jars / "kafka.jar").touch()
    return kafka.KafkaSoftware(java=java, jars=jars)


@pytest.mark.stack
async def test_after_one_trial_the_broker_starts_from_what_java_kept(tools: Path, tmp_path: Path) -> None:
    software = kafka.find_software()
    if aot_cache.cache_path(software) is None:
        pytest.skip(f"{software.java} is older than {aot_cache.JAVA_MAJOR_MIN}, which keeps nothing")
    record = ProcessFile(path=tmp_path / "processes.json")
    assert aot_cache.training_due(software)
    assert await aot_cache.train(software, tmp_path / "trial", record_in=record) == ""
    assert not aot_cache.training_due(software)
    assert not (tmp_path / "trial").exists()
    assert record.entries == {}
    (kept,) = tools.iterdir()

    folder, port = tmp_path / "kafka", choose_port()
    kafka.prepare_kafka(software, folder)
    child = kafka.start_kafka(
        software,
        folder,
        kafka.KafkaSettings(port=port),
        record_in=record,
        java_options=aot_cache.cache_options(software),
    )
    try:
        await kafka.wait_for_kafka(child, f"{HOST}:{port}")
        if ON_LINUX:
            assert str(kept) in Path(f"/proc/{child.process.pid}/maps").read_text()
    finally:
        await child.stop()
    assert "[aot]" not in child.log.read_text()  # where Java begins its complaints of a cache that does not fit


async def test_a_trial_that_fails_is_told_and_not_made_again(tools: Path, tmp_path: Path) -> None:
    software = software_of(tmp_path, "25.0.2", "echo 'No space left on device'; exit 1")
    record = ProcessFile(path=tmp_path / "processes.json")
    assert aot_cache.training_due(software)
    problem = await aot_cache.train(software, tmp_path / "trial", record_in=record)
    (marker,) = tools.iterdir()
    assert "No space left on device" in problem
    assert f"remove {marker} to try again" in problem
    assert not aot_cache.training_due(software)
    assert aot_cache.cache_options(software) == []
    marker.unlink()
    assert aot_cache.training_due(software)


@pytest.mark.parametrize("version", ["17.0.2", "24"])
def test_an_older_java_is_not_asked_for_what_it_does_not_know(version: str, tools: Path, tmp_path: Path) -> None:
    software = software_of(tmp_path, version)
    assert not aot_cache.training_due(software)
    assert aot_cache.cache_options(software) == []


def test_a_java_that_does_not_say_its_version_has_none(tools: Path, tmp_path: Path) -> None:
    software = software_of(tmp_path, "25")
    assert aot_cache.training_due(software)
    (tmp_path / "java" / "release").unlink()
    assert not aot_cache.training_due(software)
    assert aot_cache.cache_options(software) == []


def test_other_jars_need_another_cache(tools: Path, tmp_path: Path) -> None:
    """Java would refuse the old one at every start."""
    software = software_of(tmp_path, "25")
    path = aot_cache.cache_path(software)
    assert path is not None
    path.touch()
    assert not aot_cache.training_due(software)
    (software.jars / "kafka.jar").write_bytes(b"another")
    assert aot_cache.training_due(software)
