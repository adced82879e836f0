"""S3-compatible storage for tests: a real server process (moto). Tests that need faults put ``faulty_proxy`` before it.

Tests of both planes share it, so it imports neither. Nothing is intercepted: requests are signed, sent and parsed. moto keeps
buckets in memory; it checks signatures only in ``requiring_credentials``.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

SERVER = (
    Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs"))
    / "object-storage/bin/moto_server"
)
KEY, SECRET = "TESTKEY", "test/secret+key"
_UNSIGNED = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
_START_SECONDS = 120.0


@dataclass
class ObjectStorage:
    """A running server. Tests read its buckets directly, without client library, credentials and proxy."""

    url: str
    access: tuple[str, str] = (KEY, SECRET)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that a step gets."""
        return {
            "AWS_ACCESS_KEY_ID": self.access[0],
            "AWS_SECRET_ACCESS_KEY": self.access[1],
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Create an empty bucket."""
        self._call("PUT", name)

    def put(self, bucket: str, key: str, content: bytes | str) -> None:
        """Write an object; any name is allowed."""
        self._call(
            "PUT", f"{bucket}/{urllib.parse.quote(key)}", content.encode() if isinstance(content, str) else content
        )

    def get(self, bucket: str, key: str) -> bytes:
        """Read an object. KeyError when it does not exist."""
        try:
            return self._call("GET", f"{bucket}/{urllib.parse.quote(key)}")
        except urllib.error.HTTPError as error:
            raise KeyError(key) from error

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self._call("DELETE", f"{bucket}/{urllib.parse.quote(key)}")

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Names of all objects, sorted."""
        found: list[str] = []
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
            query |= {"continuation-token": token} if token else {}
            answer = self._call("GET", f"{bucket}?{urllib.parse.urlencode(query)}").decode()
            found += [urllib.parse.unquote_plus(key) for key in re.findall(r"<Key>([^<]*)</Key>", answer)]
            more = re.search(r"<NextContinuationToken>([^<]*)<", answer)
            if more is None:
                return sorted(found)
            token = more.group(1)

    @contextmanager
    def requiring_credentials(self) -> Iterator[None]:
        """Within the block, accept only requests that the key and secret of ``access`` have signed."""
        user = f"steps-{uuid4().hex[:8]}"
        self._iam({"Action": "CreateUser", "UserName": user})
        allow = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
        self._iam({"Action": "PutUserPolicy", "UserName": user, "PolicyName": "all", "PolicyDocument": allow})
        created = self._iam({"Action": "CreateAccessKey", "UserName": user})
        key, secret = (re.findall(f"<{name}>([^<]+)<", created)[0] for name in ("AccessKeyId", "SecretAccessKey"))
        self.access = (key, secret)
        self._call("POST", "moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._call("POST", "moto-api/reset-auth", b"inf")
            self.access = (KEY, SECRET)

    def _iam(self, fields: dict[str, str]) -> str:
        body = urllib.parse.urlencode(fields | {"Version": "2010-05-08"}).encode()
        authorization = _UNSIGNED.replace("/s3/", "/iam/")
        headers = {"Authorization": authorization, "Content-Type": "application/x-www-form-urlencoded"}
        request = urllib.request.Request(self.url, body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def _call(self, method: str, path: str, content: bytes = b"") -> bytes:
        headers = {"Authorization": _UNSIGNED, "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(
            f"{self.url}/{path}", content if method in {"PUT", "POST"} else None, headers, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


@contextmanager
def serve(folder: Path) -> Iterator[ObjectStorage]:
    """Start a server on a free port of this machine; its log goes to ``folder``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with (folder / "object-storage.log").open("ab") as log:
        command: list[str | Path] = [SERVER, "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(port, process, folder)
        yield ObjectStorage(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(60)


def _wait(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the object storage did not start:\n{(folder / 'object-storage.log').read_text()}")


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """A running server for all tests of a process; each makes its own buckets."""
    with serve(tmp_path_factory.mktemp("object-storage")) as storage:
        yield storage


@pytest.fixture
def bucket(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, with credentials for it in the environment."""
    name = f"bucket-{uuid4().hex[:12]}"
    object_storage.make_bucket(name)
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    for variable, value in object_storage.environment.items():
        monkeypatch.setenv(variable, value)
    return name
