"""Who is who to messaging."""

from uuid import uuid4

from shared.commands import identity_of


def test_a_key_is_its_callers_own() -> None:
    one, other = uuid4(), uuid4()
    assert identity_of("hold", one, "1") == identity_of("hold", one, "1")
    assert len({identity_of("hold", one, "1"), identity_of("hold", other, "1"), identity_of("absence", one, "1")}) == 3
