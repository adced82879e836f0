"""``python -m kfp_fake_server --port 8888 processes --python PYTHON``, or ``... pods --namespace NAME``: runs until stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_fake_server.kubernetes import Connection, Kubernetes
from kfp_fake_server.processes import Processes
from kfp_fake_server.server import FakeServer

if TYPE_CHECKING:
    from kfp_fake_server.backends import Backend


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="kfp_fake_server", description="A fake server for a Kubeflow Pipelines server."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--multi-user", action="store_true", help="runs have namespaces")
    parser.add_argument("--token", action="append", help="a bearer token that is taken; none: nobody is asked")
    backends = parser.add_subparsers(dest="backend", required=True)
    processes = backends.add_parser("processes", help="run steps as processes of this machine")
    processes.add_argument("--python", type=Path, required=True, help="what steps call python3")
    processes.add_argument("--folder", type=Path, help="for logs")
    pods = backends.add_parser("pods", help="run steps as pods")
    pods.add_argument("--namespace", default="default", help="of pods of runs without a namespace")
    pods.add_argument("--server", help="the Kubernetes API; none: that of the cluster which this runs in")
    pods.add_argument("--token-file", type=Path)
    pods.add_argument("--ca-file", type=Path)
    pods.add_argument("--extra", type=Path, help="JSON with env, volumes and volumeMounts that every pod gets")
    pods.add_argument("--helpers-image", default="", help="with a shell, for what a real server has beside a step")
    return parser.parse_args(arguments)


def backend(chosen: argparse.Namespace) -> Backend:
    """The backend that runs the steps."""
    if chosen.backend == "processes":
        return Processes(chosen.folder or Path(tempfile.mkdtemp(prefix="kfp-fake-server-")), chosen.python)
    there = Connection(chosen.server, chosen.token_file, chosen.ca_file) if chosen.server else Connection.in_cluster()
    extra = json.loads(chosen.extra.read_text()) if chosen.extra else None
    return Kubernetes(there, chosen.namespace, extra, chosen.helpers_image)


async def serve(chosen: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    fake_server = FakeServer(backend(chosen), multi_user=chosen.multi_user)
    fake_server.faults.tokens = chosen.token
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print(await fake_server.start(chosen.host, chosen.port), flush=True)
    await stopped.wait()
    await fake_server.stop()


if __name__ == "__main__":
    asyncio.run(serve(parse()))
