"""An operator's replay as a process of its own, to be killed: `python -m ... URL [EVENTS_A_SECOND]`. An event with a
score of 6 kills it from within, in the middle of its transaction."""

import asyncio
import sys

from shared.replaying import Reader
from shared.subscriptions import Subscription
from tests.shared.delivery.killing_probe import die_of_six
from tests.shared.delivery.operating import Operator, readers
from tests.shared.delivery.probe import ACTIVITY

if __name__ == "__main__":
    known = dict(readers())
    subscription = Subscription(topic=ACTIVITY, group="probe.activity", run=die_of_six)
    known["probe.activity"] = Reader(subscription, known["probe.activity"].decoder)
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else None
    asyncio.run(Operator(sys.argv[1], known)("replay", rate=rate))
