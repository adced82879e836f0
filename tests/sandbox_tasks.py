"""Tasks for the tests of the sandbox: each does on demand what hostile content can make a parser do."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from pelagos_pipelines.sandbox import Answer, TaskRefusedError

MEBIBYTE = 1024 * 1024


def echo(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Return the arguments and the content."""
    return Answer(arguments, file.read())


def refuse(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Refuse with the message in the arguments."""
    raise TaskRefusedError(arguments["message"], {"line": 3})


def fail(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Fail with an exception that quotes the content."""
    raise ValueError(f"unexpected {file.read()!r}")


def allocate(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Allocate this many bytes and touch every page."""
    taken = bytearray(arguments["bytes"])
    taken[:: resource.getpagesize()] = b"x" * len(taken[:: resource.getpagesize()])
    return Answer({"taken": len(taken)})


def spin(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Compute for this many seconds of processor time."""
    end = time.process_time() + arguments["seconds"]
    while time.process_time() < end:
        pass
    return Answer()


def sleep(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Wait for this many seconds."""
    time.sleep(arguments["seconds"])
    return Answer()


def crash(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Read from address 0, as a faulty decoder does."""
    ctypes.string_at(0)
    return Answer()


def end(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """End with a signal."""
    os.kill(os.getpid(), arguments["signal"])
    time.sleep(60)
    return Answer()


def answer_much(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Return a result of this many bytes, or a document of this many."""
    if arguments.get("document"):
        return Answer({"text": "x" * arguments["bytes"]})
    return Answer({}, bytes(arguments["bytes"]))


def write_a_file(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Write this many bytes to a path."""
    return Answer({"written": Path(arguments["path"]).write_bytes(bytes(arguments["bytes"]))})


def lie(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Write arbitrary bytes to the process that asked, as a child under an attacker's control could."""
    for one in range(3, 64):
        try:
            connection = socket.socket(fileno=os.dup(one))
        except OSError:
            continue
        connection.sendall(arguments["said"].encode())
        os._exit(0)
    return Answer()


def describe(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Report the child's environment and its rights."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return Answer(
        {
            "pid": os.getpid(),
            "environment": dict(os.environ),
            "arguments": sys.argv,
            "descriptors": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
            "noNewPrivileges": "NoNewPrivs:\t1" in status,
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "oom": Path("/proc/self/oom_score_adj").read_text(encoding="ascii").strip(),
            "interrupts": signal.getsignal(signal.SIGINT) == signal.SIG_DFL,
            "bytes": len(json.dumps(arguments)),
        }
    )


def complain(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Write the text of the arguments to standard error; returns what the sandbox recorded of this task's standard error."""
    from pelagos_pipelines.sandbox import child

    os.write(2, arguments["text"].encode())
    return Answer({"said": child.complaints()})
