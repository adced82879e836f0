"""Serves a catalogue of many models on this machine, and measures the time of its pages. Started by browsing.py.

Run with the interpreter of the environment ``hub``: render_catalogue.py MODELS. Times are of whole requests over loopback, from
the first byte sent to the last byte received, in seconds.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import catalogued
from pelagos_hub.app import make_app
from pelagos_hub.cluster import MemoryCluster
from pelagos_hub.settings import Settings

PAGES = {
    "catalogue": "/",
    "with two filters": "/?task=Detection&license=CC-BY-4.0",
    "found by words": "/?q=north+sea&sort=name",
    "its last page": "/?page=999",
    "one model": "/models/reef/model-000",
    "for programs": "/api/models",
}
REPEATS = 20


def main() -> None:
    """Print the seconds of each page, those of the first request, and the memory of the process."""
    cluster = MemoryCluster()
    catalogued.fill(cluster, int(sys.argv[1]), pictures=False)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        app = make_app(Settings(url=f"http://127.0.0.1:{port}"), cluster)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[held])))
        thread.start()
        _ask(port, "/static/hub.css")  # checks that it serves
        first = _ask(port, "/")
        found = {name: [_ask(port, path) for _ in range(REPEATS)] for name, path in PAGES.items()}
        server.should_exit = True
        thread.join()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"first": first, "pages": found, "memory": memory}))


def _ask(port: int, path: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    seconds = time.perf_counter() - began
    connection.close()
    if answer.status != 200 or len(content) < 1000:
        raise RuntimeError(f"{path}: {answer.status}, {content[:200]!r}")
    return seconds


if __name__ == "__main__":
    main()
