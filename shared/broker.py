"""FastStream's broker with the options of this product; topics are never created by it."""

from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLScram512

from shared.kafka import client_options
from shared.settings import ServiceSettings
from shared.tolerant_records import tolerate_header_names

LONGER_S = 5
"""Than a rebalance, which is done when the last member has come or its session has ended, an answer may take."""
TOPICS_MS = 5_000
"""How soon a topic is seen again of which no broker told for a moment. Its partitions are nobody's until then."""


def build_broker(settings: ServiceSettings) -> KafkaBroker:
    """A broker for subscriptions. It publishes nothing: events leave through the outbox."""
    tolerate_header_names()
    options = client_options(settings)
    security: BaseSecurity | None = None
    if settings.kafka_security != "PLAINTEXT":
        context = options.get("ssl_context")
        if settings.kafka_username and settings.kafka_password:
            security = SASLScram512(
                ssl_context=context,
                use_ssl=context is not None,
                username=settings.kafka_username,
                password=settings.kafka_password.get_secret_value(),
            )
        else:
            security = BaseSecurity(ssl_context=context, use_ssl=True)
    return KafkaBroker(
        settings.kafka_bootstrap.split(","),
        client_id=options["client_id"],
        security=security,
        request_timeout_ms=(settings.session_timeout_s + LONGER_S) * 1000,
        metadata_max_age_ms=TOPICS_MS,
        apply_types=False,
        logger=None,
        graceful_timeout=6.0,
        allow_auto_create_topics=False,
    )
