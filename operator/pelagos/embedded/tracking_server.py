"""MLflow with a login, only for this machine: ``tracking_server.py FOLDER CREDENTIALS PORT``. The supervisor starts it.

A script for the tracking environment, whose interpreter runs it by its path; nothing imports it, and it imports none of our code.
It is MLflow's own basic-auth application with four additional guards, none of which depends on MLflow's list of routes:

- without a login only ``/health`` is available, and only under our own names (``Host``, ``Origin``);
- pipeline steps, which read untrusted files, may do only what steps need (``_STEPS``);
- the server opens only its own artifacts folder, even if an experiment, run or model version names another location;
- no program is run for a request: neither MLflow's jobs nor its assistant.

Users and passwords are read from files in the credentials folder at every start, so deleting a password's file changes it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

HOST = "127.0.0.1"
_ARTIFACTS = "mlflow-artifacts"
_JUDGED_AT_ONCE = 2
"""How many passwords are checked at once. The check is slow on purpose, and a flood of requests must not use up all threads."""
_CACHE_SECONDS = 300
_ID = "[0-9a-f]{32}"
_STEPS = (
    ("GET", r"/api/2\.0/mlflow/runs/get"),
    # Steps create and end the runs of single trainings, below the operator's run. A run that a step creates has no seal, so it
    # is never taken for one of the operator's.
    ("POST", r"/api/2\.0/mlflow/runs/(create|update|log-batch|log-inputs|log-metric|log-parameter|set-tag)"),
    ("GET", r"/api/2\.0/mlflow/artifacts/list"),
    ("GET", r"/api/3\.0/mlflow/server-info"),
    ("PUT", rf"/api/2\.0/mlflow-artifacts/artifacts/[0-9]+/{_ID}/artifacts/[^\0]+"),
    ("GET", r"/api/2\.0/mlflow/(model-versions/get|registered-models/alias)"),
    ("GET", r"/api/2\.0/mlflow-artifacts/artifacts"),
    ("GET", rf"/api/2\.0/mlflow-artifacts/artifacts/[0-9]+/{_ID}/artifacts/checkpoint/[^\0]+"),
)
"""Requests that pipeline steps may make: to fill the operator's run and those below it, and to read checkpoints."""
_PROGRAMS = re.compile(r"/mlflow/assistant(/|$)|/mlflow/jobs(/|$)|/gateway(/|$)|/mlflow/gateway-proxy$")
"""Routes on which MLflow would run programs on this machine, or send requests to other servers for the client."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Login(NamedTuple):
    """One user of the server."""

    name: str
    password: str

    @property
    def header(self) -> bytes:
        """The Authorization header that clients send."""
        return b"Basic " + base64.b64encode(f"{self.name}:{self.password}".encode())

    @classmethod
    def read(cls, folder: Path, prefix: str = "") -> Login:
        """Read the files ``username`` and ``password`` with ``prefix``. Raises SystemExit when one is empty."""
        name, password = (
            (folder / f"{prefix}{part}").read_text(encoding="utf-8").strip() for part in ("username", "password")
        )
        if not name or not password:
            raise SystemExit(
                f"{folder}/{prefix}username and {prefix}password must not be empty: delete both, then start again"
            )
        return cls(name, password)


class Guard:
    """An ASGI application that requires a login before MLflow sees anything of a request."""

    def __init__(self, application: Application, port: int, steps: Login, check: Callable[[str, str], bool]) -> None:
        self._application = application
        self._hosts = {f"{name}:{port}".encode() for name in (HOST, "localhost")}
        self._origins = {b"http://" + host for host in self._hosts}
        self._steps = steps
        self._check = check
        self._judging = asyncio.Semaphore(_JUDGED_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request: refuse it, or pass it on to MLflow."""
        if scope["type"] == "lifespan":
            return await self._application(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        refusal = await self._refusal(scope)
        if refusal is None:
            return await self._application(scope, receive, send)
        return await _answer(send, *refusal)

    async def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and message of a refusal; None for a request that may pass."""
        method, path = scope["method"], scope["path"]
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 421, "this server answers only under its own names; use the address that `pelagos ui` prints"
        if any(origin.lower() not in self._origins for origin in origins):
            return 403, "pages of other addresses may not use this server"
        if path == "/health" and method in {"GET", "HEAD"}:
            return None
        user = await self._user(_values(scope, b"authorization"))
        if user is None:
            return 401, "log in; `pelagos ui` says where to find the user name and password"
        if _PROGRAMS.search(path):
            return 403, "MLflow's jobs, gateway and assistant are switched off here"
        clean = not any(part in {"", ".", ".."} for part in path.split("/")[1:])
        allowed = clean and any(method == verb and re.fullmatch(pattern, path) for verb, pattern in _STEPS)
        if user == self._steps.name and not allowed:
            return (
                403,
                (
                    "pipeline steps may write to runs of the operator and runs below those, and may read only artifacts below "
                    "checkpoint/"
                ),
            )
        return None

    async def _user(self, headers: list[bytes]) -> str | None:
        if len(headers) != 1:
            return None
        if hmac.compare_digest(headers[0], self._steps.header):
            return self._steps.name
        try:
            scheme, _, encoded = headers[0].decode("ascii").partition(" ")
            name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (UnicodeDecodeError, binascii.Error):
            return None
        if scheme.lower() != "basic" or not name or not password:
            return None
        async with self._judging:
            return name if await asyncio.to_thread(self._check, name, password) else None


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


async def _answer(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="Pelagos MLflow"'))
    code = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}.get(status, "BAD_REQUEST")
    body = json.dumps({"error_code": code, "message": words}).encode()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def confine(artifacts: Path) -> None:
    """Make MLflow open nothing outside its artifacts folder.

    Every route that reads or writes files uses this one registry; MLflow's other kinds of storage are removed from it.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact import artifact_repository_registry
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.utils.file_utils import local_file_uri_to_path

    root = Path(os.path.realpath(artifacts))

    def below(path: str) -> str:
        """``path``, if it resolves to a location below the artifacts. Raises MlflowException otherwise."""
        if not Path(os.path.realpath(path)).is_relative_to(root):
            raise MlflowException.invalid_parameter_value(
                f"a location outside of this server's artifacts cannot be opened; only {_ARTIFACTS}:/ is allowed"
            )
        return path

    class Confined(LocalArtifactRepository):  # type: ignore[misc]
        """An artifact repository that is confined to the artifacts folder."""

        def __init__(self, uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
            below(local_file_uri_to_path(uri))
            super().__init__(uri, tracking_uri, registry_uri)

        def download_trace_data(self) -> Any:
            for entry in Path(self.artifact_dir).glob("*"):
                below(str(entry))
            return super().download_trace_data()

        def delete_artifacts(self, artifact_path: str | None = None) -> None:
            below(os.path.join(self.artifact_dir, artifact_path or ""))  # noqa: PTH118  strings, as MLflow's
            super().delete_artifacts(artifact_path)

    def proxied(uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Confined:
        parts = urlsplit(uri)
        if parts.netloc:
            raise MlflowException.invalid_parameter_value(f"{_ARTIFACTS}: must name no server; write {_ARTIFACTS}:/")
        return Confined(str(root / parts.path.lstrip("/")), tracking_uri, registry_uri)

    registry = artifact_repository_registry._artifact_repository_registry._registry
    registry.clear()
    registry.update({"": Confined, "file": Confined, _ARTIFACTS: proxied})


def refuse_locations() -> None:
    """Make MLflow refuse artifact locations outside this server, with a message that says what is allowed."""
    from mlflow.exceptions import MlflowException
    from mlflow.server import handlers

    usual = handlers._validate_storage_location_uri

    def validate(value: str, field_name: str) -> Any:
        parts = urlsplit(value)
        if parts.scheme != _ARTIFACTS or parts.netloc:
            raise MlflowException.invalid_parameter_value(
                f"{field_name} must begin with {_ARTIFACTS}:/ or be left out, so that artifacts are kept on this server"
            )
        return usual(value, field_name)

    handlers._validate_storage_location_uri = validate


def _prepare_environment(folder: Path, credentials: Path, port: int) -> None:
    """Set the variables that ``mlflow server`` passes to its workers, and disable features. Call it before importing mlflow."""
    # Remove the user's own settings: those meant for clients of other servers could open this one.
    for name in [name for name in os.environ if name.lstrip("_").startswith("MLFLOW_")]:
        del os.environ[name]
    configuration = credentials / "auth.ini"
    store = f"sqlite:///{folder / 'mlflow.db'}"
    database = f"sqlite:///{folder / 'auth.db'}"
    lines = (
        "[mlflow]",
        "default_permission = NO_PERMISSIONS",
        f"database_uri = {database.replace('%', '%%')}",
        f"auth_cache_ttl_seconds = {_CACHE_SECONDS}",
    )
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.environ.update(
        {
            "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
            "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_AI_GATEWAY": "false",
            "MLFLOW_ENABLE_ASSISTANT_SANDBOX": "true",
            "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
            "MLFLOW_ENABLE_WORKSPACES": "false",
            "MLFLOW_GATEWAY_RESOLVE_API_KEY_FROM_FILE": "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
            "MLFLOW_SERVER_ENABLE_GRAPHQL_AUTH": "true",
            # Job execution would start a runner and seven consumers, which take 0.5 GB and are not used here.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "_MLFLOW_IN_JOB_EXECUTOR": "false",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
            "_MLFLOW_SERVER_ARTIFACT_ROOT": f"{_ARTIFACTS}:/",
            "_MLFLOW_SERVER_FILE_STORE": store,
            "_MLFLOW_SERVER_REGISTRY_STORE": store,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
    )


def _prepare_users(admin: Login, steps: Login) -> None:
    """Create both users, or set their present passwords."""
    from mlflow.exceptions import MlflowException
    from mlflow.server.auth import store

    for login, is_admin in ((admin, True), (steps, False)):
        if not store.has_user(login.name):
            store.create_user(login.name, login.password, is_admin=is_admin)
        elif not store.authenticate_user(login.name, login.password):
            store.update_user(login.name, password=login.password)
    # For all experiments: every step runs as the same user of the machine, so separate logins would protect nothing.
    for resource, permission in (("experiment", "EDIT"), ("registered_model", "READ")):
        try:
            store.grant_user_resource_permission(steps.name, resource, "*", permission)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def application(folder: Path, credentials: Path, port: int) -> Guard:
    """MLflow behind its guards; databases are created if needed."""
    admin, steps = Login.read(credentials), Login.read(credentials, "steps-")
    _prepare_environment(folder, credentials, port)
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = (credentials / "secret-key").read_text(encoding="utf-8").strip()
    os.environ |= {"MLFLOW_AUTH_ADMIN_USERNAME": admin.name, "MLFLOW_AUTH_ADMIN_PASSWORD": admin.password}
    from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS

    sources = "|".join([rf"{_ARTIFACTS}:/(?!/)", "runs:/", "models:/", *map(re.escape, _PROMPT_SOURCE_PLACEHOLDERS)])
    os.environ["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"] = f"^({sources})"
    from mlflow.server import auth, handlers

    store = os.environ["_MLFLOW_SERVER_FILE_STORE"]
    handlers.initialize_backend_stores(store, store, os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"])
    (folder / "artifacts").mkdir(exist_ok=True)
    confine(folder / "artifacts")
    refuse_locations()
    inner = auth.create_app()
    _prepare_users(admin, steps)
    return Guard(inner, port, steps, lambda name, password: auth._authenticate_cached(name, password) is not None)


def main() -> None:
    """Serve until SIGTERM."""
    os.umask(0o077)
    folder, credentials, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    guarded = application(folder, credentials, port)
    import uvicorn

    uvicorn.run(guarded, host=HOST, port=port, access_log=False, server_header=False, log_level="info")


if __name__ == "__main__":
    main()
