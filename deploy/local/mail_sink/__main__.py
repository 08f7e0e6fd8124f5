"""`python -m deploy.local.mail_sink`: runs until SIGTERM or SIGINT."""

import asyncio
import signal
import sys

from deploy.local.mail_sink.server import HOST, MailSink
from deploy.local.mail_sink.settings import MailSinkSettings


async def main() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with MailSink(MailSinkSettings()) as sink:
        print(f"mail sink: SMTP on {HOST}:{sink.smtp_port}, pages on http://{HOST}:{sink.port}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except OSError as error:
        print(f"The mail sink cannot start: {error}", file=sys.stderr)
        sys.exit(1)
