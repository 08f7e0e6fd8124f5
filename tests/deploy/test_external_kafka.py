"""A Kafka that is given with a security is talked to that way by the services and by every command."""

import ast
import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.local.problems import LocalProblem
from deploy.local.programs import choose_program_ports, service_programs
from deploy.local.settings import LocalSettings
from deploy.local.stack import KafkaAccess, Stack, StackService, kafka_options, load_stack, save_stack
from deploy.local.supervisor import kafka_access, server_choices
from services.plans.settings import PlansSettings
from shared.kafka import client_options

ROOT = Path(__file__).parents[2]
SECRET = "not-for-everyone"
CLIENTS = {"create_topics", "describe_topics", "kafka_cluster", "kafka_answers", "LogReader"}
"""What reaches the broker besides aiokafka's own classes."""


def a_stack(data: Path, access: KafkaAccess) -> Stack:
    return Stack(
        state="running", supervisor_pid=1, supervisor_mark="", data=data, namespace="", postgres_url="postgresql://x",
        kafka_bootstrap="broker.example:9093", kafka_access=access, valkey_url="redis://x", embedded=(),
        services={"plans": StackService(url="http://127.0.0.1:9", database_url="postgresql://x")},
        console_url="http://x", issuer_url="http://x", issuer_data=data, mail_url="http://x", smtp_port=9,
        clock_file=data / "clock.json", simulation=data,
    )  # fmt: skip


@pytest.fixture
def settings() -> LocalSettings:
    return LocalSettings(
        kafka_bootstrap="broker.example:9093", kafka_security="SASL_SSL", kafka_username="clinic",
        kafka_password=SecretStr(SECRET), messaging_port=0, enrollment_port=0, plans_port=0, notifications_port=0,
        issuer_port=0, mail_port=0, smtp_port=0,
    )  # fmt: skip


def test_the_commands_connect_as_the_settings_say(settings: LocalSettings, tmp_path: Path) -> None:
    save_stack(a_stack(tmp_path, kafka_access(settings)))
    found = load_stack(tmp_path)
    assert found is not None
    options = kafka_options(found)
    assert isinstance(options.pop("ssl_context"), ssl.SSLContext)
    assert options == {
        "bootstrap_servers": "broker.example:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "clinic",
        "sasl_plain_password": SECRET,
    }
    assert SECRET not in repr(found)


def test_a_service_connects_as_the_settings_say(
    settings: LocalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = choose_program_ports(settings)
    (program,) = service_programs(a_stack(tmp_path, kafka_access(settings)), ports, settings)
    for name, value in program.env.items():
        monkeypatch.setenv(name, value)
    options = client_options(PlansSettings())
    assert (options["security_protocol"], options["sasl_plain_password"]) == ("SASL_SSL", SECRET)


def test_a_kafka_of_our_own_stays_in_plaintext(settings: LocalSettings) -> None:
    own = settings.model_copy(update={"kafka_bootstrap": None})
    assert kafka_access(own) == KafkaAccess()
    assert server_choices(own).kafka_security == {"security_protocol": "PLAINTEXT"}


def test_a_certificate_authority_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    access = KafkaAccess(kafka_security="SSL", kafka_ca_file=tmp_path / "ca.pem")
    with pytest.raises(LocalProblem, match=r"CARELOOP_KAFKA_CA_FILE .*FileNotFoundError"):
        access.options()
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(LocalProblem, match="SSLError"):
        access.options()


def test_nothing_of_deploy_reaches_a_broker_without_its_security() -> None:
    unsecured = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "deploy").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        for name in [getattr(call.func, "attr", getattr(call.func, "id", ""))]
        if name in CLIENTS or name.startswith("AIOKafka")
        if not any(keyword.arg in (None, "security") for keyword in call.keywords)
    }
    assert unsecured == set()
