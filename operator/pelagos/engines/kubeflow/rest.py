"""The Kubeflow Pipelines API (v2beta1): one request in, its JSON or one of our errors out. Used by the engine kubeflow.

The official generated client (kfp-server-api) supplies paths and parameters; it is imported at the first call, runs in threads,
and every request has a time limit. Its models are not used: they turn a bogus answer, such as the login page of a proxy, into an
empty object, and an empty list of runs would make us start a run twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from pelagos.ports.errors import ForbiddenError, OutageError, RejectedError
from pelagos.ports.leadership import unguarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pelagos.ports.leadership import Guard

Struct = dict[str, Any]

SYSTEM = "Kubeflow Pipelines"
TIMEOUT = 10.0
"""Seconds to connect, and again for each part of an answer; a whole answer may take three times as long."""
CONCURRENCY = 8
"""Concurrent requests; more have to wait. A server that does not answer must not use up all of the operator's threads."""
PAGE_SIZE = 100
LONGEST_HOLD = 60.0
"""Longest Retry-After that is obeyed, in seconds."""
LARGEST_ANSWER = 1 << 30
"""Largest answer that is read, in bytes, with each part counted as full."""
_PART = 1 << 18
_MAYBE_LATER = frozenset({408, 425, 429, 499})
_LOOKING = ("get_", "list_")
"""Prefixes of operations that change nothing."""
_DENIED = frozenset({401, 403})


class AbsentError(RejectedError):
    """The server knows no such run or experiment."""


class ExistsError(RejectedError):
    """The server already has an object of this name."""


class DeniedError(OutageError):
    """The server does not know us or denies us. An outage, because work continues by itself once a person has fixed it."""


class ForbiddenHereError(DeniedError, ForbiddenError):
    """The server knows us, but does not allow this in this namespace."""


class BrokenError(OutageError):
    """The server failed on this request (status 500 or above)."""


class KubeflowRest:
    """A connection to one server. Safe for concurrent use within one event loop.

    ``token_file`` is read at every request, so that a renewed token is used at once. ``guard`` is asked before every request
    that changes something, in the thread that makes the request.
    """

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout: float = TIMEOUT,
        guard: Guard = unguarded,
    ) -> None:
        self.url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._timeout = timeout
        self._guard = guard
        self._room = asyncio.Semaphore(CONCURRENCY)
        self._held_until = 0.0
        self._client: Any = None
        self._making = threading.Lock()

    async def experiments(self, namespace: str, name: str) -> AsyncIterator[Struct]:
        """Experiments of this name. There should be at most one, but servers have had several."""
        listed = {"filter": _filter("EQUALS", name)} | _given(namespace=namespace)
        async for experiment in self._all("experiment", "list_experiments", "experiments", listed):
            yield experiment

    async def create_experiment(self, namespace: str, name: str, description: str) -> Struct:
        """Create an experiment and return it. Raises ExistsError."""
        body = {"display_name": name, "description": description} | _given(namespace=namespace)
        return await self._call("experiment", "create_experiment", experiment=body)

    async def delete_experiment(self, identifier: str) -> None:
        """Delete an experiment, but not its runs. Raises AbsentError."""
        await self._call("experiment", "delete_experiment", experiment_id=identifier)

    async def runs(self, *, experiment: str = "", namespace: str = "", part: str = "") -> AsyncIterator[Struct]:
        """Runs of an experiment, else of a namespace, whose display name contains ``part``; the oldest first."""
        listed = {"sort_by": "created_at asc"} | ({"filter": _filter("IS_SUBSTRING", part)} if part else {})
        listed |= _given(experiment_id=experiment) or _given(namespace=namespace)
        async for run in self._all("run", "list_runs", "runs", listed):
            yield run

    async def create_run(self, body: Mapping[str, Any]) -> Struct:
        """Create a run and return it as the server stored it."""
        return await self._call("run", "create_run", run=dict(body))

    async def get_run(self, identifier: str) -> Struct:
        """Read a run by the server's id. Raises AbsentError."""
        return await self._call("run", "get_run", run_id=identifier)

    async def terminate_run(self, identifier: str) -> None:
        """Ask for a run's end, which comes later. Raises AbsentError; RejectedError if it has ended or is being ended."""
        await self._call("run", "terminate_run", run_id=identifier)

    async def delete_run(self, identifier: str) -> None:
        """Delete a run's record. Raises AbsentError."""
        await self._call("run", "delete_run", run_id=identifier)

    async def is_healthy(self) -> Struct:
        """The server's health report, for example ``{"multi_user": true}``. Raises OutageError and RejectedError."""
        return await self._call("healthz", "get_healthz")

    async def _all(self, service: str, operation: str, key: str, arguments: Mapping[str, Any]) -> AsyncIterator[Struct]:
        token = ""
        while True:
            page = await self._call(service, operation, page_size=PAGE_SIZE, **arguments, **_given(page_token=token))
            for item in page.get(key) or []:
                yield item
            token = page.get("next_page_token") or ""
            if not token:
                return

    async def _call(self, service: str, operation: str, **arguments: Any) -> Struct:
        waiting = self._held_until - monotonic()
        if waiting > 0:
            raise OutageError(SYSTEM, f"{self.url} asked for a pause; {waiting:.0f} seconds of it remain")
        try:
            return await self._in_thread(service, operation, arguments)
        except DeniedError:
            if self._token_file is None:
                raise
            # The token may have been renewed between our reading it and the server's checking it: read it again, and retry once.
            return await self._in_thread(service, operation, arguments)

    async def _in_thread(self, service: str, operation: str, arguments: Mapping[str, Any]) -> Struct:
        async with self._room:
            if self._client is None:
                # Importing the client takes seconds on a busy machine, so it does not count against the server's time limit.
                await asyncio.to_thread(self._connect)
            try:
                # The thread enforces its own deadline; this timeout covers the DNS look-up, which cannot be interrupted.
                async with asyncio.timeout(4 * self._timeout):
                    return await asyncio.to_thread(self._request, service, operation, arguments)
            except TimeoutError:
                raise OutageError(SYSTEM, f"{self.url} {operation}: no answer within {4 * self._timeout:g} s") from None

    def _request(self, service: str, operation: str, arguments: Mapping[str, Any]) -> Struct:
        import kfp_server_api
        import urllib3

        what = f"{self.url} {operation}"
        deadline = monotonic() + 3 * self._timeout
        api = getattr(kfp_server_api, f"{service.capitalize()}ServiceApi")(self._client)
        method = getattr(api, f"{service}_service_{operation}")
        # Asked as late as possible, here in the thread: leadership may have moved while the request waited for its turn.
        if not operation.startswith(_LOOKING):
            self._guard("kfp", operation)
        try:
            answer = method(**arguments, _preload_content=False, _request_timeout=(self._timeout, self._timeout))
            content = _read(answer, deadline)
        except kfp_server_api.ApiException as error:
            raise self._translate(error, what) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise OutageError(SYSTEM, f"{what}: {_in_one_line(str(error)) or type(error).__name__}") from error
        except (AttributeError, ValueError) as error:
            # The generated client fails like this on errors without a body, such as a broken TLS handshake.
            reason = getattr(error.__context__, "reason", "") or f"the answer cannot be read ({type(error).__name__})"
            raise OutageError(SYSTEM, f"{what}: {_in_one_line(str(reason))}") from error
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            start = _in_one_line(content[:80].decode(errors="replace"))
            message = f"this is not an answer of a Kubeflow Pipelines server but {start!r}; is there a login page in front of it?"
            raise OutageError(SYSTEM, f"{what}: {message}")
        return body

    def _connect(self) -> None:
        import kfp_server_api

        with self._making:
            if self._client is not None:
                return
            configuration = kfp_server_api.Configuration(host=self.url)
            configuration.retries = False  # a retried request would exceed our time limit, and follow redirects
            configuration.connection_pool_maxsize = CONCURRENCY
            configuration.ssl_ca_cert = str(self._ca_file) if self._ca_file else ssl.get_default_verify_paths().cafile
            if self._token_file is not None:
                configuration.api_key["authorization"] = ""
                configuration.api_key_prefix["authorization"] = "Bearer"
                configuration.refresh_api_key_hook = self._read_token
            # Its debug messages contain whole requests, including users' data.
            logging.getLogger("kfp_server_api").setLevel(logging.WARNING)
            self._client = kfp_server_api.ApiClient(configuration)

    def _read_token(self, configuration: Any) -> None:
        if self._token_file is not None:
            configuration.api_key["authorization"] = self._token_file.read_text(encoding="utf-8").strip()

    def _translate(self, error: Any, what: str) -> Exception:
        status = error.status
        text = f"{what}: HTTP {status} {_words(error.body) or error.reason or ''}".rstrip()
        if status in _DENIED:
            if status == 403:
                hint = (
                    "Give the operator the rights of the component kubeflow-multi-user by a ClusterRoleBinding (a RoleBinding "
                    "goes with its namespace, before our resources there are cleaned up), and check PELAGOS_KUBEFLOW_NAMESPACE"
                )
                return ForbiddenHereError(SYSTEM, f"{text}. {hint}")
            if self._token_file is None:
                hint = "Set PELAGOS_KUBEFLOW_TOKEN_FILE to a projected service-account token with the audience"
            else:
                hint = f"Check that the token in {self._token_file} is renewed and has the audience"
            return DeniedError(SYSTEM, f"{text}. {hint} pipelines.kubeflow.org")
        if status == 404:
            return AbsentError(SYSTEM, text)
        if status == 409:
            return ExistsError(SYSTEM, text)
        if status >= 500:
            self._hold(error.headers)
            return BrokenError(SYSTEM, text)
        if status in _MAYBE_LATER or status < 400:
            self._hold(error.headers)
            sent_away = (
                " (an answer from something in front of the server, such as a login page)"
                if 300 <= status < 400
                else ""
            )
            return OutageError(SYSTEM, text + sent_away)
        return RejectedError(SYSTEM, text)

    def _hold(self, headers: Mapping[str, str] | None) -> None:
        """Send the server no requests for as long as its Retry-After asks."""
        seconds = (headers or {}).get("Retry-After", "")
        if seconds.isdigit():
            self._held_until = monotonic() + min(float(seconds), LONGEST_HOLD)


def _read(answer: Any, deadline: float) -> bytes:
    """The whole answer. Bounded in time and size, because each part may arrive in time and the answer still never end."""
    parts = []
    while part := answer.read1(_PART):
        parts.append(part)
        if monotonic() > deadline or len(parts) * _PART > LARGEST_ANSWER:
            answer.close()
            raise TimeoutError("the answer did not end")
    answer.release_conn()
    return b"".join(parts)


def _words(body: str | bytes | None) -> str:
    """The message of an error's body, without the JSON that the server wraps it in."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _in_one_line(text)
    if not isinstance(document, dict):
        return _in_one_line(text)
    return _in_one_line(str(document.get("message") or document.get("error") or ""))


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _given(**values: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}


def _filter(operation: str, value: str) -> str:
    predicate = {"operation": operation, "key": "display_name", "string_value": value}
    return json.dumps({"predicates": [predicate]})
