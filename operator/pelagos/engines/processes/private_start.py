"""Replaces itself with another program, with private files. Run as a script by the local engines, with a bare interpreter.

``private_start.py LIBRARIES PROGRAM ARGUMENT...``: only its owner can read what the program writes (umask 077), it leaves no core
dumps, may hold as many connections as the system allows, and has ``LIBRARIES`` as LD_LIBRARY_PATH. Triton's Python backend shares
memory with its models, users' images included, in files that it makes readable to everybody with fchmod; here that call succeeds
without any effect.
"""

import ctypes
import os
import resource
import struct
import sys

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _PRETEND = 0x7FFF0000, 0x00050000
_ARCHITECTURES = {"x86_64": (0xC000003E, 91), "aarch64": (0xC00000B7, 52)}
"""Per machine type: the kernel's audit architecture, and the number of the fchmod system call."""


def close_modes() -> bool:
    """Make fchmod a no-op for this process and its children, by a seccomp filter; returns False where that is not possible."""
    known = _ARCHITECTURES.get(os.uname().machine)
    if known is None:
        return False
    architecture, fchmod = known
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 0, 3, architecture),
        (_LOAD, 0, 0, 0),
        (_EQUAL, 0, 1, fchmod),
        (_RETURN, 0, 0, _PRETEND),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    is_bound = prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    return is_bound and bool(prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)


def main() -> None:
    """Restrict this process and replace it with the program."""
    libraries, program, *arguments = sys.argv[1:]
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Where the kernel refuses this, the engine restricts those files itself (close_regions).
    close_modes()
    variables = {**os.environ, "LD_LIBRARY_PATH": libraries}
    os.execve(program, [program, *arguments], variables)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
