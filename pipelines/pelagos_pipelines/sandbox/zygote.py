"""The process that children are forked from: clean, single-threaded, with the module of tasks loaded.

Callers may have threads. A fork copies the locks that other threads hold at that moment, but not the threads that would release
them, so callers start this process instead of forking themselves.

Started by pool.py as ``python -I zygote.py DESCRIPTOR PARENT``. The descriptor is one end of a SOCK_SEQPACKET pair. The first
message on it says what to load; the following ones are:

- ``{"fork": true}`` with the descriptors of a child: answered with ``{"pid": ...}``
- ``{"end": pid}``: kill and reap the child, and answer how it ended, ``{"status": ...}``

It ends when the other end closes or the parent ends, and its children end with it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from types import ModuleType
from typing import Any

MESSAGE_BYTES = 64 * 1024
"""The longest message in either direction."""


def main(descriptor: int, parent: int) -> None:
    """Serve until the parent ends or closes its end of the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    control = socket.socket(fileno=descriptor)
    watched = os.pidfd_open(parent)
    if os.getppid() != parent:  # it ended before we could watch it, and its id may be another process's by now
        return
    first = json.loads(control.recv(MESSAGE_BYTES))
    sys.path[:] = first["path"]
    sys.dont_write_bytecode = True
    # Imported only now that the path is the parent's: because of `-I`, this process's own has neither PYTHONPATH nor the current
    # folder.
    from pelagos_pipelines.sandbox import child

    tasks = child.load(first["module"])
    control.sendall(b'{"ready": true}')
    children: set[int] = set()
    try:
        _serve(control, watched, children, tasks)
    finally:
        for pid in children:
            _end(pid)


def _serve(control: socket.socket, watched: int, children: set[int], tasks: ModuleType) -> None:
    from pelagos_pipelines.sandbox import child

    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(watched, select.POLLIN)
    # The parent is watched as well, because its end of the socket stays open when other children of it have inherited it.
    while all(descriptor != watched for descriptor, _ in poll.poll()):
        content, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 4)
        if not content:
            return
        message: dict[str, Any] = json.loads(content)
        if "end" in message:
            children.discard(message["end"])
            control.sendall(json.dumps({"status": _end(message["end"])}).encode())
            continue
        pid = os.fork()
        if pid == 0:
            # The child must not be able to ask for other children, or to have one ended.
            control.close()
            os.close(watched)
            child.become(child.Descriptors(*descriptors), message["limits"], tasks)
        # The child has its own copies of these. While this process held one, the parent would not see the child end.
        for one in descriptors:
            os.close(one)
        children.add(pid)
        control.sendall(json.dumps({"pid": pid}).encode())


def _end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # our own child, not yet reaped, so its id cannot be another process's
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
