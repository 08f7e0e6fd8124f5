"""Runs a command under another uid: `python as_user.py UID GID CAPABILITIES -- COMMAND...`. Standard library only.

PostgreSQL refuses to run as root, so a stack started by root gives it another uid, which owns its data. Folders above
(a clone in /root, say) may be closed to that uid. Opening them to everyone would be a change nobody asked for, so the
server gets the one capability that lets it pass through folders instead (capabilities(7), ambient set; Linux only).
This is a program of its own, not code run between fork and exec, as the starting process has threads.
"""

import ctypes
import os
import stat
import sys
from pathlib import Path

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


def needed_capability(paths: list[Path], *, uid: int, gid: int, programs: list[Path]) -> int | None:
    """Which capability `uid` lacks to reach `paths` and run `programs`; None if plain permissions suffice."""
    if any(not _allowed(program, uid=uid, gid=gid, bits=5) for program in programs):
        return CAP_DAC_OVERRIDE  # CAP_DAC_READ_SEARCH opens folders and files for reading, but not for execution
    parents = {parent for path in [*paths, *programs] for parent in path.resolve().parents}
    if all(_allowed(parent, uid=uid, gid=gid, bits=1) for parent in parents):
        return None
    # A container's root often lacks the narrower one.
    return CAP_DAC_READ_SEARCH if CAP_DAC_READ_SEARCH in held_capabilities() else CAP_DAC_OVERRIDE


def held_capabilities() -> set[int]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return set()
    mask = int(next(line.split()[1] for line in lines if line.startswith("CapPrm:")), 16)
    return {number for number in range(64) if mask >> number & 1}


def _allowed(path: Path, *, uid: int, gid: int, bits: int) -> bool:
    found = path.stat()
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    return stat.S_IMODE(found.st_mode) >> shift & bits == bits


def become(uid: int, gid: int, capabilities: list[int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if capabilities:
        _check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if not capabilities:
        return
    mask = sum(1 << number for number in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Twice effective, permitted, inheritable: the low and the high 32 capabilities.
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    _check(libc.capset(header, data), "set capabilities")
    for number in capabilities:
        _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0), "raise an ambient capability")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"could not {what}")


def main(arguments: list[str]) -> None:
    uid, gid, capabilities, separator, *command = arguments
    if separator != "--" or not command:
        raise SystemExit("usage: as_user.py UID GID CAPABILITIES -- COMMAND...")
    become(int(uid), int(gid), [int(number) for number in capabilities.split(",") if number])
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
