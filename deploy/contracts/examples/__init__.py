"""One example of every event: twelve weeks of one simulated member, so that the examples follow from each other.

They stand in the AsyncAPI document and in the reference, and the golden files were written from them.
"""

from typing import Final

from deploy.contracts.examples.care_team import conversation_examples, notification_examples, visit_examples
from deploy.contracts.examples.treatment import activity_examples, member_examples, plan_examples
from shared.events import CloudEvent, PainSpiked
from shared.events.catalogue import EVENTS


def _all() -> dict[str, CloudEvent]:
    of_members, of_apps = member_examples(), activity_examples()
    session, pain = of_apps
    of_plans = plan_examples(of_members[1], session, pain)
    of_conversations = conversation_examples(next(event for event in of_plans if isinstance(event, PainSpiked)))
    of_visits = visit_examples(of_conversations[0])
    examples = [
        *of_members, *of_apps, *of_plans, *of_visits, *of_conversations, *notification_examples(session, of_visits[0])
    ]  # fmt: skip
    by_type = {example.type: example for example in examples}
    return {name: by_type[name] for name in EVENTS}


EXAMPLES: Final[dict[str, CloudEvent]] = _all()
"""By `type`, in the catalogue's order; a KeyError at import where an event has none."""
