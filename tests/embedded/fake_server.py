"""A server for the supervisor's tests: ``fake_server.py PORT BEHAVIOUR...``; answers /ready and /alive.

``pid=FILE`` writes its process id, one line per start; ``worker=FILE`` starts a worker that only sleeps, and writes its id;
``fail=N`` ends with exit code 3 in the first N starts; ``never-ready`` answers 503 on /ready, ``never-alive`` on both;
``stubborn`` ignores SIGTERM.
"""

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

port, behaviours = int(sys.argv[1]), dict(argument.partition("=")[::2] for argument in sys.argv[2:])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        unready = self.path == "/ready" and "never-ready" in behaviours
        self.send_response(503 if unready or "never-alive" in behaviours else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write no log."""


def note(file: str, pid: int) -> int:
    with Path(file).open("a+") as stream:
        stream.write(f"{pid}\n")
        stream.seek(0)
        return len(stream.readlines())


if "stubborn" in behaviours:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
starts = note(behaviours["pid"], os.getpid()) if "pid" in behaviours else 0
if "worker" in behaviours:
    worker = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    note(behaviours["worker"], worker.pid)
print(f"start {starts} on {port}", flush=True)
if starts <= int(behaviours.get("fail", 0)):
    sys.exit(3)
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
