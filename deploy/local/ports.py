"""Ports on 127.0.0.1: nothing that runs locally listens anywhere else."""

import random
import socket
from collections import deque

import psutil

from deploy.local.problems import LocalProblem

HOST = "127.0.0.1"


CHOSEN_FROM = range(20_000, 32_000)
"""Below what systems give to outgoing connections: one of those could take a port before its program does."""
TRIES_MAX = 200
KEPT_MAX = 200
_kept: deque[socket.socket] = deque()
"""Bound to the ports that were chosen last and never listening: whoever was given one may not listen there yet."""


def choose_port() -> int:
    """A port that is free, and that no process chooses again for as long as this one lives, or until it has chosen many
    others. A server can listen there: like any, it takes an address on which nobody else listens. LocalProblem where
    none was found."""
    for port in random.SystemRandom().sample(CHOSEN_FROM, TRIES_MAX):
        keeper = socket.socket()
        try:
            keeper.bind((HOST, port))
        except OSError:
            keeper.close()
            continue
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _kept.append(keeper)
        if len(_kept) > KEPT_MAX:
            _kept.popleft().close()
        return port
    raise LocalProblem(f"No port between {CHOSEN_FROM.start} and {CHOSEN_FROM.stop} was found free.")


def require_free_port(port: int, *, what: str, setting: str) -> int:
    """`port` if nothing listens there, a free one if it is 0. Raises LocalProblem that names who has it.

    `what` is the program that wants it, `setting` the environment variable that moves it.
    """
    if port == 0:
        return choose_port()
    with socket.socket() as probe:
        # As servers do: a port whose last connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise LocalProblem(f"{what} may not use port {port}: choose one above 1023 with {setting}.") from None
        except OSError:
            raise LocalProblem(
                f"Port {port}, which {what} needs, is taken{_by_whom(port)}: "
                f"stop that program or choose another port with {setting} (0 = any)."
            ) from None
    return port


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass  # an ordinary user may not see whose it is; the port is taken all the same
    return ""
