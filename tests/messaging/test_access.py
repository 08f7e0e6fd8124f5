"""Who is who to messaging."""

from uuid import uuid4

from services.messaging.api.access import identity_of
from shared.auth import Principal


def test_a_key_is_its_callers_own() -> None:
    one, other = (Principal(subject=uuid4(), roles=frozenset({"member"})) for _ in range(2))
    assert identity_of("hold", one, "1") == identity_of("hold", one, "1")
    assert len({identity_of("hold", one, "1"), identity_of("hold", other, "1"), identity_of("absence", one, "1")}) == 3
