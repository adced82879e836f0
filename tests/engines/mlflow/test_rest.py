"""How failures of MLflow, the network and proxies become errors that reconcilers distinguish."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pelagos.engines.mlflow.notation import quoted
from pelagos.engines.mlflow.rest import AbsentError, Access, ExistsError, MlflowRest
from pelagos.ports.errors import OutageError, RejectedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Serve = Callable[[Callable[[web.Request], Awaitable[web.Response]]], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start an HTTP server that answers every request with the given function."""
    servers: list[TestServer] = []

    async def start(answer: Callable[[web.Request], Awaitable[web.Response]]) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server in servers:
        await server.close()


def answer(status: int, **arguments: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        headers = {"Location": "/login"} if status == 302 else {}
        return web.Response(status=status, headers=headers, **arguments)

    return handle


@pytest.mark.parametrize(
    "words", ["(sqlite3.OperationalError) database or disk is full", "[Errno 28] No space left on device"]
)
async def test_a_full_disk_of_the_server_is_told_as_one(serve: Serve, words: str) -> None:
    body = json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": f"{words}\n[SQL: INSERT INTO ...]"})
    rest = MlflowRest(await serve(answer(503, text=body)))
    with pytest.raises(RejectedError, match="the volume on which the MLflow server keeps its data is full") as caught:
        await rest.post("runs/create", {})
    assert caught.value.reason == "DiskFull"
    assert "SQL" not in str(caught.value)
    await rest.close()


MLFLOW_ERROR = '{"error_code": "%s", "message": "what MLflow says"}'
LOST_RACES = (
    "(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.name",
    '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "registered_model_alias_pk"',
    "(pymysql.err.IntegrityError) (1062, \"Duplicate entry 'detector-champion' for key 'PRIMARY'\")",
    "(pyodbc.IntegrityError) Cannot insert duplicate key row in object 'dbo.aliases' with unique index 'ix'. (2601)",
)
"""Databases' messages, passed on by MLflow, when another client created the same at the same time.

Of SQLite, PostgreSQL, MySQL and SQL Server.
"""


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (500, MLFLOW_ERROR % "INTERNAL_ERROR", OutageError),
        (503, MLFLOW_ERROR % "TEMPORARILY_UNAVAILABLE", OutageError),
        (429, MLFLOW_ERROR % "REQUEST_LIMIT_EXCEEDED", OutageError),
        (502, "<html>what MLflow says</html>", OutageError),
        (400, MLFLOW_ERROR % "INVALID_PARAMETER_VALUE", RejectedError),
        (401, "what MLflow says", RejectedError),
        (403, "what MLflow says", RejectedError),
        (404, MLFLOW_ERROR % "RESOURCE_DOES_NOT_EXIST", AbsentError),
        (400, MLFLOW_ERROR % "RESOURCE_ALREADY_EXISTS", ExistsError),
        (200, "<html>what MLflow says</html>", OutageError),
        (200, '["what MLflow says"]', OutageError),
        (200, '["what MLflow says", ' + "[" * 100_000, OutageError),
        (400, '["what MLflow says", ' + "[" * 100_000, RejectedError),
        (302, "what MLflow says", OutageError),
    ],
)
async def test_answers_become_errors(serve: Serve, status: int, text: str, expected: type[Exception]) -> None:
    rest = MlflowRest(await serve(answer(status, text=text)))
    with pytest.raises(expected, match="what MLflow says") as caught:
        await rest.get("runs/get", run_id="1")
    assert type(caught.value) is expected
    await rest.close()


@pytest.mark.parametrize("text", LOST_RACES)
async def test_who_lost_a_race_in_the_database_is_told_that_it_exists(serve: Serve, text: str) -> None:
    said = json.dumps({"error_code": "BAD_REQUEST", "message": text})
    rest = MlflowRest(await serve(answer(400, text=said)))
    with pytest.raises(ExistsError):
        await rest.post("registered-models/alias", {})
    await rest.close()


async def test_a_server_that_is_away_is_an_outage() -> None:
    rest = MlflowRest("http://127.0.0.1:9")
    with pytest.raises(OutageError, match=r"MLflow: http://127\.0\.0\.1:9 runs/get"):
        await rest.get("runs/get", run_id="1")
    await rest.close()


async def test_a_server_that_hangs_is_an_outage(serve: Serve) -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    rest = MlflowRest(await serve(hang), timeout=0.1)
    with pytest.raises(OutageError, match=r"no answer within 0\.1 s"):
        await rest.get("runs/get", run_id="1")
    await rest.close()


@pytest.mark.parametrize(
    ("names", "header"),
    [
        (("username", "password"), "Basic YWRhOnPDqWNyZXQ="),
        (("token", "username"), "Bearer abc"),
        ((), None),
    ],
)
async def test_credentials_are_sent(serve: Serve, tmp_path: Path, names: tuple[str, ...], header: str | None) -> None:
    seen = []

    async def record(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({})

    rest = MlflowRest(await serve(record), access=write_access(tmp_path, *names))
    await rest.get("runs/get", run_id="1")
    assert seen == [header]
    await rest.close()


def write_access(folder: Path, *names: str) -> Access:
    """Files as mounted from a Secret."""
    contents = {"username": "ada\n", "password": "sécret\n", "token": "abc\n"}
    for name in names:
        (folder / name).write_text(contents[name])
    return Access(**{f"{name}_file": folder / name for name in names})


async def test_a_credential_that_cannot_be_read_is_named_by_its_setting(tmp_path: Path) -> None:
    rest = MlflowRest("http://127.0.0.1:9", access=write_access(tmp_path, "username", "password"))
    for content, words in (
        (b"", "is empty"),
        (b"two\nlines", "is not one"),
        (b"\xff", "UnicodeDecodeError"),
        (None, "No such"),
    ):
        (tmp_path / "password").unlink()
        if content is not None:
            (tmp_path / "password").write_bytes(content)
        with pytest.raises(
            RejectedError, match=rf"password .*{words}.*; correct PELAGOS_TRACKING_PASSWORD_FILE"
        ) as caught:
            await rest.get("runs/get", run_id="1")
        assert "lines" not in str(caught.value)
        (tmp_path / "password").touch()
    await rest.close()


async def test_calls_are_measured(serve: Serve) -> None:
    seen: list[tuple[str, str, str | None]] = []

    def observe(system: str, operation: str, seconds: float, error: str | None) -> None:
        assert 0 < seconds < 10
        seen.append((system, operation, error))

    for status, code in ((200, ""), (500, ""), (400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST")):
        rest = MlflowRest(await serve(answer(status, text=json.dumps({"error_code": code}))), observe=observe)
        with contextlib.suppress(OutageError, RejectedError):
            await rest.post("runs/search", {})
        await rest.close()
    assert seen == [("mlflow", "runs/search", error) for error in (None, "outage", "rejected", None)]


def test_a_value_is_quoted_with_the_kind_of_quotes_that_it_does_not_hold() -> None:
    assert quoted("a") == "'a'"
    assert quoted("it's") == '"it\'s"'
    assert quoted('"a"') == "'\"a\"'"
    with pytest.raises(RejectedError, match="both kinds of quotes"):
        quoted('it\'s "both"')
