"""Reaches a Service in a cluster from outside, by `kubectl port-forward`. Used by ``pelagos predict``.

Model servers have addresses that only pods can resolve. A user with the right to forward ports can try them from a laptop.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pelagos.cli.access import Chosen

_FORWARDING = re.compile(r"Forwarding from (127\.0\.0\.1:\d+) ->")
_GRACE = 5.0


class ForwardingError(Exception):
    """The Service cannot be reached; the message says why, in one line, and what to do."""


@contextmanager
def reachable(address: str, at: Chosen) -> Iterator[str]:
    """Yield a ``host:port`` that can be reached from here while the context lasts.

    This is ``address`` itself, unless its host is a Service's name (``<service>.<namespace>.svc``) that does not resolve here.
    ``at`` is the API server that forwards the port. Raises ForwardingError.
    """
    host, _, port = address.rpartition(":")
    parts = host.split(".")
    if len(parts) < 3 or parts[2] != "svc" or _resolves(host):
        yield address
        return
    process = _start(parts[0], parts[1], port, at)
    try:
        said = ""
        for line in process.stdout or ():
            if found := _FORWARDING.search(line):
                yield found[1]
                return
            said = line.strip()
        by_hand = " ".join([*at.arguments, f"--namespace {parts[1]} port-forward service/{parts[0]} {port}"])
        raise ForwardingError(f"its port cannot be forwarded: {said or 'kubectl ended'}. Try: kubectl {by_hand}")
    finally:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _start(service: str, namespace: str, port: str, at: Chosen) -> subprocess.Popen[str]:
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    if kubectl is None:
        raise ForwardingError(
            f"{service}.{namespace} is inside the cluster, and kubectl, which would forward its port, is not installed"
        )
    environment = {**os.environ, "KUBECONFIG": at.file}
    command = [kubectl, *at.arguments, "--namespace", namespace, "port-forward", f"service/{service}", f":{port}"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    )
