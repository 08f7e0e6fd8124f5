"""A stand-in for a service: HTTP that is ready at once, and live until `/deafen` is asked for.
`python -m tests.deploy.tiny_service PORT`."""

import http.server
import signal
import sys
from typing import ClassVar


class Ready(http.server.BaseHTTPRequestHandler):
    answers: ClassVar = {"/health/ready": 200, "/health/progress": 200, "/health/live": 200, "/deafen": 200}

    def do_GET(self) -> None:
        if self.path == "/deafen":
            self.answers["/health/live"] = 503
        self.send_response(self.answers.get(self.path, 404))
        self.end_headers()
        self.wfile.write(
            b'{"settled": true, "dead": 0, "parked": 0, "waiting": 0, "given_up_timers": 0, "outbox_oldest_s": 0}'
        )

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    print("tiny service starts", flush=True)
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
