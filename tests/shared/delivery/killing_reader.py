"""The probe, but to read a record with a score of 6 ends its process, as a crash in a native parser would."""

import os
import signal
from collections.abc import Sequence

from shared.events import CloudEvent
from shared.events.codec import Decoder
from shared.service import run
from shared.settings import ServiceSettings
from tests.shared.delivery.probe import build


class KillingDecoder(Decoder):
    __slots__ = ()

    def decode(self, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> CloudEvent:
        if value is not None and b'"score":6' in value:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(value, headers)


if __name__ == "__main__":
    service = build(ServiceSettings())
    for reader in service.readers.values():
        reader.decoder.__class__ = KillingDecoder
    run(service)
