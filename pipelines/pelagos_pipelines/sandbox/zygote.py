"""The process that children are forked from: clean, single-threaded, with the tasks' module loaded.

Started by pool.py as ``python -I zygote.py DESCRIPTOR PARENT``; the descriptor is one end of a SOCK_SEQPACKET pair, on which
it is told first what to load, and then:

- ``{"fork": true}`` with the descriptors of a child: answered with ``{"pid": ...}``
- ``{"end": pid}``: kill the child if it lives, and answer how it ended, ``{"status": ...}``

It ends when the other end closes or when the parent is gone, and its children end with it.
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
    """Serve until nobody can ask any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that we serve
    control = socket.socket(fileno=descriptor)
    watched = os.pidfd_open(parent)
    if os.getppid() != parent:  # it ended before we could watch it, and the number may be another process's by now
        return
    first = json.loads(control.recv(MESSAGE_BYTES))
    sys.path[:] = first["path"]
    sys.dont_write_bytecode = True
    # After the path is that of the parent: `-I` leaves it out of ours, so that no variable decides what is imported here.
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
    # The parent may end without closing its end, which other children of it can have inherited.
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
            # The child must not be able to ask for others, or for the end of one.
            control.close()
            os.close(watched)
            child.become(child.Descriptors(*descriptors), message["limits"], tasks)
        # Here they are copies; while this process had one, the parent would not see that the child has ended.
        for one in descriptors:
            os.close(one)
        children.add(pid)
        control.sendall(json.dumps({"pid": pid}).encode())


def _end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # it is ours and not waited for: the number is nobody else's
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
