"""Peers that go without a word, as a host does that fails: noticed within seconds. Nobody tells that their connections
have ended; a kernel left to itself waits a quarter of an hour for what it sent, and for ever where it sent nothing."""

import asyncio
import socket

SENT_MS = 10_000
"""What was sent and is not acknowledged for so long, by the other kernel whoever serves there, was sent to nobody."""
LIMITS = {
    # On a connection on which nothing is said for 5 s the other kernel is asked whether it is there, three times.
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": SENT_MS,
}


def notice_vanished(transport: asyncio.BaseTransport) -> None:
    """End this connection soon after its peer has vanished."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family == socket.AF_UNIX:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in LIMITS.items():
        if hasattr(socket, option):  # not every system knows each
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
