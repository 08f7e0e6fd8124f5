"""Posts a stream at its times, as an app does that has no Kafka. An event is accepted once its answer says so; until
then it is posted again."""

import asyncio
from collections.abc import Sequence

from tests.chaos.asking import Answer, Asker, code_of
from tests.chaos.findings import Findings
from tests.chaos.publishing import each_tick
from tests.chaos.stream import Publication

SINGLE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


class Poster:
    """Each event alone or in a batch. `refused`: what an answer said would not be taken."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.refused = Findings()

    async def play(self, stream: Sequence[Publication]) -> None:
        """Each at its time, a tick at a time."""
        async for due in each_tick(stream):
            batch = [one for one in due if one.way == "batch"]
            alone = [one for one in due if one.way == "post"]
            await asyncio.gather(self._post_batch(batch), *(self._post(one) for one in alone))

    async def _post(self, one: Publication) -> None:
        answer = await self._ask(one.value or b"", SINGLE)
        if answer.status != 202:
            self.refused.add("log", f"an event that was posted was answered with {answer.status} {answer.reason}")

    async def _post_batch(self, several: Sequence[Publication]) -> None:
        """Those that were not acknowledged once more, with what else was not."""
        while several:
            events = b"[" + b",".join(one.value or b"" for one in several) + b"]"
            answer = await self._ask(events, BATCH)
            results = answer.body.get("results", []) if answer.status == 202 else []
            again = []
            for one, result in zip(several, results, strict=False):
                code = code_of(result.get("problem", {}))
                if code == "not-acknowledged":
                    again.append(one)
                elif code:
                    self.refused.add("log", f"an event of a batch was answered with {code}")
            if len(results) != len(several):
                self.refused.add("log", f"a batch was answered with {answer.status} and {len(results)} results")
            several = again

    async def _ask(self, content: bytes, media_type: str) -> Answer:
        headers = {"Content-Type": media_type}
        return await self._asker.ask(
            "plans", "POST", "/v1/events", token=self._asker.app(), headers=headers, content=content
        )
