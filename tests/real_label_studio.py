"""The real Label Studio server for tests, in a separate environment, with a database in the test's folder.

Its first start creates that database, which takes a minute of one core. A copy is kept in the user's cache, keyed by the
installed packages: later starts take 14 seconds of one core, which the program itself needs. Tests of both planes share this.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.cookiejar
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[1]
SERVER = Path(os.environ.get("PELAGOS_ENVIRONMENTS", _ROOT / ".venvs")) / "label-studio/bin/label-studio"
_USER, _PASSWORD = "reef@example.org", "a-long-reef"
_START_SECONDS = 600.0
BOXES = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image"><Label value="crab"/>'
    '<Label value="fish"/></RectangleLabels></View>'
)
"""A configuration for boxes of two classes."""


@dataclass
class LabelStudio:
    """A running server, with a personal access token of its user."""

    url: str
    token: str
    _access: str = ""

    def call(self, method: str, path: str, document: Any = None, content: bytes | None = None, kind: str = "") -> Any:
        """The API's answer to its user; AssertionError for an unsuccessful one."""
        body = content if content is not None else None if document is None else json.dumps(document).encode()
        self._access = self._access or self._renewed()
        headers = {"Authorization": f"Bearer {self._access}", "Content-Type": kind or "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._access = self._renewed()
                return self.call(method, path, document, content, kind)
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error

    def project(self, title: str = "reef", configuration: str = BOXES) -> int:
        """Create a project; returns its number."""
        return int(self.call("POST", "/api/projects", {"title": title, "label_config": configuration})["id"])

    def upload(self, project: int, images: Mapping[str, bytes]) -> None:
        """Create a task for each image, which the server stores."""
        for name, content in images.items():
            head = f'--part\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
            path = f"/api/projects/{project}/import?commit_to_project=true"
            body = head.encode() + content + b"\r\n--part--\r\n"
            self.call("POST", path, content=body, kind="multipart/form-data; boundary=part")

    def add(self, project: int, tasks: list[dict[str, Any]]) -> None:
        """Import tasks, with annotations and predictions or without."""
        self.call("POST", f"/api/projects/{project}/import", tasks)

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks of a project, with all annotations and predictions."""
        found = self.call("GET", f"/api/tasks?project={project}&page_size=1000&fields=all")
        return list(found["tasks"])

    def annotate(self, task: int, *boxes: dict[str, Any]) -> None:
        """Submit an annotation of these results."""
        self.call("POST", f"/api/tasks/{task}/annotations/", {"result": list(boxes)})

    def _renewed(self) -> str:
        request = urllib.request.Request(
            f"{self.url}/api/token/refresh",
            json.dumps({"refresh": self.token}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["access"])


def box(
    label: str, x: float, y: float, width: float, height: float, size: tuple[int, int] = (40, 30)
) -> dict[str, Any]:
    """A rectangle for BOXES, in percent of an image of this size."""
    place = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]}
    return {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "value": place,
    }


@contextmanager
def serve(folder: Path) -> Iterator[LabelStudio]:
    """Start a server on a free port of this machine; its data and its log go to ``folder``."""
    shutil.copytree(_template(), folder / "data", dirs_exist_ok=True)
    with _started(folder / "data", folder / "label-studio.log") as url:
        yield LabelStudio(url, _token(url))


def _template() -> Path:
    """A data folder with an empty, complete database, from the user's cache if the installed packages are the same."""
    installed = hashlib.sha256((_ROOT / "requirements/label-studio.txt").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pelagos/label-studio"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / installed
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            part = cache / f"{installed}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            with _started(part, cache / "log"):
                pass
            part.rename(kept)
    return kept


@contextmanager
def _started(data: Path, log: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(data.parent),
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    } | {name: value for name, value in os.environ.items() if name.startswith("TESTS_OF_PELAGOS")}
    command: list[str | Path] = [
        SERVER,
        "start",
        "--host",
        url,
        "--internal-host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-browser",
    ]
    command += ["--username", _USER, "--password", _PASSWORD]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=30):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"Label Studio did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _token(url: str) -> str:
    """A new personal access token, created as the user does in a browser."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = browser.open(f"{url}/user/login/", timeout=60).read().decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page[:1000]
    form = urllib.parse.urlencode({"csrfmiddlewaretoken": found[1], "email": _USER, "password": _PASSWORD}).encode()
    browser.open(urllib.request.Request(f"{url}/user/login/", form, {"Referer": url}), timeout=60).close()
    cookie = next(each.value or "" for each in jar if each.name == "csrftoken")
    headers = {"Content-Type": "application/json", "X-CSRFToken": cookie, "Referer": url}
    with browser.open(urllib.request.Request(f"{url}/api/token/", b"{}", headers), timeout=60) as answer:
        return str(json.load(answer)["token"])


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A running server for all tests of a process; each makes its own project."""
    if not SERVER.exists():
        pytest.skip("the environment label-studio is not installed")
    with serve(tmp_path_factory.mktemp("label-studio")) as server:
        yield server
