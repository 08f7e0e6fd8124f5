"""Ports on 127.0.0.1: nothing that runs locally listens anywhere else."""

import random
import socket

import psutil

from deploy.local.problems import LocalProblem

HOST = "127.0.0.1"


CHOSEN_FROM = range(20_000, 32_000)
"""Below what systems give to outgoing connections: one of those could take a port before its program does."""
TRIES_MAX = 200
_chosen: set[int] = set()
"""In this process: whoever was given one may not listen there yet."""


def choose_port() -> int:
    """A port that was free a moment ago, and that this process has not chosen before. LocalProblem where none was
    found."""
    if len(_chosen) > len(CHOSEN_FROM) // 2:
        _chosen.clear()
    for port in random.SystemRandom().sample(CHOSEN_FROM, TRIES_MAX):
        if port in _chosen:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            _chosen.add(port)
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
