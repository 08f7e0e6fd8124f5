"""What stops a start is named by its setting, and no value of any setting goes to the log with it: some are secret."""

import pytest
from pydantic import ValidationError

from deploy.local.issuer.settings import IssuerSettings
from deploy.local.settings import LocalSettings
from services.messaging.pages.settings import ConsoleSettings
from services.notifications.settings import NotificationsSettings
from services.plans.settings import PlansSettings
from shared.settings import ServiceSettings


@pytest.mark.parametrize(
    ("settings", "unfit", "named"),
    [
        (PlansSettings, {"CARELOOP_KAFKA_PASSWORD": "s3cret"}, "database_url"),
        (
            NotificationsSettings,
            {"CARELOOP_DATABASE_URL": "s3cret", "CARELOOP_SMS_TOKEN": "s3cret", "CARELOOP_SMTP_TIMEOUT_S": "60"},
            "send_answer_within_s",
        ),
        (ServiceSettings, {"CARELOOP_DATABASE_URL": "s3cret", "CARELOOP_KAFKA_PASSWORD": "s3cret"}, "port"),
        (LocalSettings, {"CARELOOP_POPULATION_WEEKS": "s3cret"}, "population_weeks"),
        (IssuerSettings, {"CARELOOP_ISSUER_PORT": "s3cret"}, "port"),
        (ConsoleSettings, {"CARELOOP_CONSOLE_IDLE_MIN": "s3cret"}, "idle_min"),
    ],
)
def test_an_unfit_setting_is_named_and_no_value_is_shown(
    settings: type[ServiceSettings], unfit: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARELOOP_DATABASE_URL", raising=False)
    for name, value in unfit.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as stopped:
        settings()
    assert named in str(stopped.value)
    assert "s3cret" not in str(stopped.value)
