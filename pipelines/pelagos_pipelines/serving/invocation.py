"""One asynchronous invocation: ``python -m pelagos_pipelines.serving.invocation`` in the script of an OSCAR service.

OSCAR's supervisor has written the event to ``INPUT_FILE_PATH``. The package is fetched and served in this container.
Then the image is fetched, the result written, and last the status (pelagos_contract.invocations), which is also logged. Addresses
must begin with ``PELAGOS_INVOCATIONS_URL``, so that a caller cannot make jobs contact other servers in the cluster. Ends with 0
when there is a result, though nothing checks that. Imports the standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NoReturn

from pelagos_contract import invocations, kserve_v2
from pelagos_contract.invocations import Invocation, Status
from pelagos_contract.text import shown
from pelagos_pipelines.serving import alone, entrypoint, gateway

LOAD_SECONDS = 300.0
ANSWER_SECONDS = 300.0
TRANSFER_SECONDS = 120.0
_LARGEST_EVENT = 128 * 1024
_ANSWER = "answer"
_AUTHORITIES = "PELAGOS_INVOCATIONS_CA"


class FailedError(Exception):
    """The invocation has no result; the message says why, in one line."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirects: a signed address must not lead elsewhere."""

    def redirect_request(self, *_: object) -> None:
        """Refuse: urllib then raises the redirect as an HTTPError."""


def main() -> NoReturn:
    """Fetch the package, drop the keys, answer. Ends the process."""
    variables = dict(os.environ)
    try:
        invocation = told(variables)
    except (FailedError, ValueError, OSError) as error:
        entrypoint.fail(f"the invocation cannot be read: {error}", os.EX_DATAERR)
    if sys.argv[1:] == [_ANSWER]:
        sys.exit(answer(invocation, variables))
    try:
        alone.fetch(variables)
    except SystemExit as ended:
        message = f"the model package could not be brought (code {ended.code}); the log of the job says why"
        sys.exit(leave(invocation, Status(invocation.key, invocations.FAILED, message), variables))
    kept = alone.without_keys(variables) | {_AUTHORITIES: variables.get("PELAGOS_STORAGE_CA", "")}
    os.execve(sys.executable, [sys.executable, "-m", __spec__.name, _ANSWER], kept)  # noqa: S606 - arguments are a list


def told(variables: Mapping[str, str]) -> Invocation:
    """The invocation, after its addresses have been checked. Raises FailedError, ValueError or OSError."""
    path = Path(variables.get("INPUT_FILE_PATH", ""))
    with path.open("rb") as file:
        content = file.read(_LARGEST_EVENT + 1)
    if len(content) > _LARGEST_EVENT:
        raise FailedError(f"the event has more than {_LARGEST_EVENT} bytes")
    invocation, begin = invocations.read_event(content), variables.get("PELAGOS_INVOCATIONS_URL", "")
    if not begin:
        raise FailedError("this service takes no asynchronous invocations: the operator has no PELAGOS_OSCAR_BUCKET")
    for name in ("image_url", "result_url", "status_url"):
        if not getattr(invocation, name).startswith(begin):
            raise FailedError(f"{name} must begin with {begin}")
    return invocation


def answer(invocation: Invocation, variables: Mapping[str, str]) -> int:
    """Serve the model, predict, write the result and the status. Returns 0 when there is a result."""
    manifest = variables.get("PELAGOS_MANIFEST_SHA256", "")
    try:
        image = _transfer(invocation.image_url, variables, limit=invocations.LARGEST_IMAGE)
        if hashlib.sha256(image).hexdigest() != invocation.image_sha256:
            raise FailedError("the image is not the one that was sent: its sha256 differs")
        with serving(variables) as sockets:
            result = ask(sockets, variables, image, invocation.confidence)
        _transfer(invocation.result_url, variables, content=result)
        digest = hashlib.sha256(result).hexdigest()
        status = Status(invocation.key, invocations.SUCCEEDED, "", digest, manifest)
    except FailedError as error:
        status = Status(invocation.key, invocations.FAILED, str(error), "", manifest)
    return leave(invocation, status, variables)


def leave(invocation: Invocation, status: Status, variables: Mapping[str, str]) -> int:
    """Write the status, to the log first. Returns 0 when it reports a result and was written."""
    finished = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    content = invocations.document(Status(**{**vars(status), "finished_at": finished}))
    print(f"{invocations.LOGGED}{content}", flush=True)  # noqa: T201 - the job's log
    try:
        _transfer(invocation.status_url, variables, content=content.encode())
    except FailedError as error:
        entrypoint.fail(f"the status cannot be written: {error}", os.EX_IOERR)
    return 0 if status.state == invocations.SUCCEEDED else 1


@contextlib.contextmanager
def serving(variables: Mapping[str, str]) -> Iterator[Path]:
    """Run the server with its model loaded during the block, which gets the folder of its sockets. Raises FailedError."""
    sockets = entrypoint.sockets(variables)
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "pelagos_pipelines.serving.entrypoint"]
        server = subprocess.Popen(command, env=dict(variables), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + LOAD_SECONDS
            while gateway.ask(sockets / "http", "GET", "/v2/health/ready") is None:
                if server.poll() is not None:
                    raise FailedError(f"the server did not load the model: {_last_line(log)}")
                if time.monotonic() > deadline:
                    raise FailedError(f"the model was not loaded within {LOAD_SECONDS:g} s")
                time.sleep(0.1)
            yield sockets
        finally:
            server.terminate()
            try:
                server.wait(entrypoint.EXIT_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def ask(sockets: Path, variables: Mapping[str, str], image: bytes, confidence: str) -> bytes:
    """The server's prediction for the image, as JSON. Raises FailedError."""
    header, body = kserve_v2.request(image, {"confidence": confidence} if confidence else {})
    connection = gateway.Connection(sockets / "http", ANSWER_SECONDS)
    try:
        path = f"/v2/models/{variables.get('PELAGOS_MODEL_NAME', '')}/infer"
        connection.request("POST", path, body, {kserve_v2.HEADER_LENGTH: str(header)})
        found = connection.getresponse()
        content = found.read()
        if found.status != http.HTTPStatus.OK:
            words = shown(" ".join(content[:500].decode(errors="replace").split()))
            raise FailedError(f"the server refused the image: HTTP {found.status} {words}")
        return kserve_v2.prediction(content, found.headers.get(kserve_v2.HEADER_LENGTH, ""))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FailedError(f"the server did not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()


def _transfer(url: str, variables: Mapping[str, str], *, content: bytes | None = None, limit: int = 4096) -> bytes:
    """PUT ``content``, or GET at most ``limit`` bytes. Signatures in the address appear in no message."""
    method = "PUT" if content is not None else "GET"
    authorities = variables.get(_AUTHORITIES) or variables.get("PELAGOS_STORAGE_CA") or None
    try:
        tls = ssl.create_default_context(cadata=authorities)
        opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=tls))
        # Set explicitly, because urllib declares bytes to be a form by default.
        headers = {"Content-Type": "application/octet-stream"} if content is not None else {}
        request = urllib.request.Request(url, content, headers, method=method)  # noqa: S310 - begins as the operator says
        with opener.open(request, timeout=TRANSFER_SECONDS) as found:
            body: bytes = found.read(limit + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise FailedError(
                f"the storage answers HTTP {error.code} to {method}: the address may have expired"
            ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FailedError(f"the storage does not answer: {type(error).__name__}") from None
    if len(body) > limit:
        raise FailedError(f"what the storage holds has more than {limit} bytes")
    return body


def _last_line(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 4096))
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return shown(lines[-1].removeprefix("pelagos: "))[:500] if lines else "it says nothing"


if __name__ == "__main__":
    main()
