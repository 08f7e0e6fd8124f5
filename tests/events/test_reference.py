"""What is generated agrees with the code, and says what is true of it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from deploy.contracts import generate
from deploy.contracts.access import OPERATOR, access_rules, service_of
from deploy.contracts.schemas import event_schema
from deploy.contracts.settings_page import documented_variables, meaning, settings_classes
from shared.events.catalogue import APPS, EVENTS, SERVICES, TOPICS
from shared.events.codec import encode
from shared.events.envelope import CloudEvent
from shared.identities import ClaimSettings
from shared.settings import ServiceSettings
from tests.events.strategies import events

DOCUMENT = yaml.safe_load(generate.reference_files()["asyncapi.yaml"])
VALIDATORS = {name: jsonschema.Draft202012Validator(event_schema(event)) for name, event in EVENTS.items()}


def check_asyncapi(document: dict[str, Any]) -> None:
    """Validate against the models of AsyncAPI 3.0.0 that FastStream writes its own documents with; its `pathname` of a
    server is optional in the specification, and a broker has none."""
    servers = {name: {"pathname": "", **server} for name, server in document["servers"].items()}
    ApplicationSchema.model_validate({**document, "servers": servers})


def references(member: Any) -> list[str]:
    if isinstance(member, dict):
        own = [member["$ref"]] if isinstance(member.get("$ref"), str) else []
        return own + [found for part in member.values() for found in references(part)]
    return [found for part in member for found in references(part)] if isinstance(member, list) else []


def resolve(reference: str) -> Any:
    place: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        place = place[step]
    return place


def test_the_reference_is_what_the_code_generates() -> None:
    """Otherwise run `python -m deploy.contracts.generate`."""
    assert generate.drifted(generate.reference_files(), generate.REFERENCE) == []


def test_drift_is_seen_and_mended(tmp_path: Path) -> None:
    files = {"a.md": b"a", "schemas/b.json": b"b"}
    assert generate.write(files, tmp_path) == ["a.md", "schemas/b.json"]
    assert generate.drifted(files, tmp_path) == []
    (tmp_path / "a.md").write_bytes(b"edited")
    (tmp_path / "schemas" / "old.json").write_bytes(b"")
    (tmp_path / "schemas" / "b.json").unlink()

    assert generate.drifted(files, tmp_path) == ["a.md", "schemas/b.json", "schemas/old.json"]
    generate.write(files, tmp_path)
    assert generate.drifted(files, tmp_path) == []


def test_the_asyncapi_document_is_valid() -> None:
    check_asyncapi(DOCUMENT)


@pytest.mark.parametrize(
    "path",
    [("channels", "activity", "bindings", "kafka", "partitions"), ("operations", "plans.activity.consumes", "action")],
)
def test_the_specification_would_see_a_mistake(path: tuple[str, ...]) -> None:
    document = orjson.loads(orjson.dumps(DOCUMENT))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "wrong"

    with pytest.raises(ValidationError):
        check_asyncapi(document)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    found = references(DOCUMENT)

    assert len(found) > 200
    for reference in found:
        assert resolve(reference), reference


def test_the_asyncapi_document_holds_the_catalogue() -> None:
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        short = topic.name.removeprefix("careloop.")
        channel = DOCUMENT["channels"][short]
        names = {event.NAME for event in topic.events}
        assert set(channel["messages"]) == names | {f"{name}.binary" for name in names}
        assert channel["bindings"]["kafka"]["partitions"] == topic.partitions
        assert DOCUMENT["operations"][f"{topic.publisher}.publishes.{short}"]["action"] == "send"
        for group in topic.consumers:
            operation = DOCUMENT["operations"][f"{group}.consumes"]
            assert operation["bindings"]["kafka"]["groupId"]["enum"] == [group]
            assert operation["channel"]["$ref"] == f"#/channels/{short}"


def test_the_asyncapi_document_says_what_a_publisher_must_know() -> None:
    told = DOCUMENT["info"]["description"]

    for word in ("murmur2", "librdkafka", "partitioner=murmur2_random", "65536", "5 minutes ahead", "30 days ago"):
        assert word in told
    for event in EVENTS.values():
        structured, binary = (DOCUMENT["components"]["messages"][event.NAME + mode] for mode in ("", ".binary"))
        assert structured["contentType"] == "application/cloudevents+json"
        assert binary["contentType"] == "application/json"
        for message in (structured, binary):
            (trait,) = message["traits"]
            assert resolve(trait["$ref"])["bindings"]["kafka"]["key"]["format"] == "uuid"


def test_an_event_is_never_an_array() -> None:
    """What a document made from batch subscribers would say, which is not what is on the wire."""
    for message in DOCUMENT["components"]["messages"].values():
        assert resolve(message["payload"]["$ref"])["type"] == "object"


def test_apps_alone_are_told_that_they_may_send_binary_mode() -> None:
    sent = {
        name: any(message["$ref"].endswith(".binary") for message in operation["messages"])
        for name, operation in DOCUMENT["operations"].items()
        if operation["action"] == "send"
    }
    assert {name for name, binary in sent.items() if binary} == {"apps.publishes.activity"}


def test_the_version_is_the_products() -> None:
    project = tomllib.loads((generate.ROOT / "pyproject.toml").read_text())["project"]

    assert DOCUMENT["info"]["version"] == project["version"]


@given(event=events())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_we_write_fits_its_published_schema(event: CloudEvent) -> None:
    VALIDATORS[event.type].validate(orjson.loads(encode(event)))


@given(event=events())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_published_schema_lets_newer_members_pass_and_wants_the_envelope(event: CloudEvent) -> None:
    raw = orjson.loads(encode(event))
    validator = VALIDATORS[event.type]
    validator.validate({**raw, "new": 1, "data": {**raw["data"], "new": [1]}})
    for name in ("specversion", "id", "source", "type", "time", "subject", "data"):
        assert not validator.is_valid({member: value for member, value in raw.items() if member != name}), name


def test_access_rules_are_exact() -> None:
    rules = access_rules()
    topics = {topic.name: topic for topic in TOPICS}

    for rule in rules:
        assert "*" not in rule.name
        assert rule.operations
        if rule.resource == "topic" and "Write" in rule.operations:
            assert rule.principal in topics[rule.name].writers
        if rule.resource == "topic" and "Read" in rule.operations and rule.principal != OPERATOR:
            assert rule.principal in {service_of(group) for group in topics[rule.name].consumers}
    for topic in TOPICS:
        for writer in topic.writers:
            assert any(r.principal == writer and r.name == topic.name and "Write" in r.operations for r in rules)
        for group in topic.consumers:
            reads = {r.name for r in rules if r.principal == service_of(group) and "Read" in r.operations}
            assert {group, topic.name} <= reads


def test_apps_read_nothing_and_only_two_services_read_addresses() -> None:
    rules = access_rules()

    assert {(rule.name, rule.operations) for rule in rules if rule.principal == APPS} == {
        ("careloop.activity", ("Describe", "Write"))
    }
    readers = {r.principal for r in rules if r.name == "careloop.contacts" and "Read" in r.operations}
    assert readers == {"messaging", "notifications", OPERATOR}


def test_nobody_but_the_operator_may_make_or_change_a_topic() -> None:
    for rule in access_rules():
        if rule.principal != OPERATOR:
            assert not {"Create", "AlterConfigs"} & set(rule.operations)


def test_every_setting_is_documented_with_what_it_means() -> None:
    page = generate.reference_files()["settings.md"].decode()
    found = [*settings_classes("services"), *settings_classes("deploy"), *settings_classes("tests")]

    assert {module.split(".")[1] for module, _ in found if module.startswith("services.")} == set(SERVICES)
    classes: list[type[BaseSettings]] = [
        ServiceSettings,
        ClaimSettings,
        *(settings_class for _, settings_class in found),
    ]
    silent: list[str] = []
    for settings_class in classes:
        prefix = str(settings_class.model_config.get("env_prefix"))
        assert prefix.startswith("CARELOOP_")
        for name in settings_class.model_fields:
            assert f"| `{prefix}{name.upper()}` |" in page
            silent += [] if meaning(settings_class, name) else [f"{settings_class.__name__}.{name}"]
    assert not silent, "these have no docstring"


def test_no_variable_of_the_environment_is_read_in_secret() -> None:
    """Whatever the source calls CARELOOP_SOMETHING is a documented setting, or the beginning of some."""
    known = documented_variables()
    files = [
        path for folder in ("services", "shared", "deploy", "tests") for path in (generate.ROOT / folder).rglob("*")
    ]
    unknown = {
        f"{path.relative_to(generate.ROOT)}: {name}"
        for path in [*files, generate.ROOT / "Makefile"]
        if path.suffix in (".py", ".sh", "") and path.is_file()
        for name in re.findall(r"CARELOOP_[A-Z0-9_]*", path.read_text("utf-8", errors="replace"))
        if name not in known and not (name.endswith("_") and any(one.startswith(name) for one in known))
    }
    assert unknown - {"tests/events/test_reference.py: CARELOOP_SOMETHING"} == set()


def test_the_metrics_of_every_service_are_listed() -> None:
    page = generate.reference_files()["metrics.md"].decode()

    for name in ("careloop_records_total", "careloop_notification_attempts_total", "careloop_enrollment_unplaced"):
        assert f"| `{name}` |" in page
    made = {
        name
        for folder in ("services", "shared")
        for path in (generate.ROOT / folder).rglob("*.py")
        for name in re.findall(r'(?:Counter|Gauge|Histogram|Summary)\(\s*"(careloop_\w+)"', path.read_text("utf-8"))
    }
    assert {name for name in made if f"| `{name}`" not in page and f"| `{name}_total`" not in page} == set()
