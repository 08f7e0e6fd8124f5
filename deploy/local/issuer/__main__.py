"""`python -m deploy.local.issuer`: serves until it is told to stop."""

import sys

import uvicorn
from pydantic import ValidationError

from deploy.local.issuer.app import build_app
from deploy.local.issuer.settings import IssuerSettings


def main() -> int:
    try:
        settings = IssuerSettings()
        app = build_app(settings)
    except (ValidationError, ValueError, OSError) as problem:
        print(f"The local issuer cannot start: {problem}", file=sys.stderr)
        return 1
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
