"""Executes a program that is killed when its parent ends: ``ending_with_parent.py PARENT_PID PROGRAM ARGUMENT...``.

It is a script and not a function between fork and exec: libraries of the parent have threads, and their fork handlers can crash
the child. It imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_FAILED_TO_START = 127


def main() -> None:
    """Replace this process by the program; never returns."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have ended before prctl took effect; then this process has already been given another parent.
    if os.getppid() != parent:
        sys.exit(_FAILED_TO_START)
    # The Python interpreter ignores SIGPIPE, and the program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
