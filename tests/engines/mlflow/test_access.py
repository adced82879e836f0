"""A real MLflow server behind TLS, basic authentication and tokens: what grants access, and the errors otherwise."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from faulty_proxy import make_authority, proxied
from loopback import free_port
from model_packages import ENVIRONMENTS
from pelagos.engines.mlflow.rest import Access, MlflowRest
from pelagos.engines.mlflow.tracking import MlflowTracking
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tracking import DesiredTrackedRun, Sealing
from pelagos.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 420
SEALING = Sealing("ours", lambda _run: "ours", lambda _run, seal: seal == "ours", lambda seal: seal == "ours")
pytestmark = pytest.mark.timeout(START_SECONDS + 120)
ADMINISTRATOR = ("admin", "CANARY-of-the-administrator")


@pytest.fixture(scope="module")
def guarded_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server with its own basic authentication."""
    folder = tmp_path_factory.mktemp("mlflow-auth")
    port = free_port()
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = {ADMINISTRATOR[0]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command: list[str | Path] = [
        *(ENVIRONMENTS / "tracking/bin/mlflow", "server", "--app-name", "basic-auth", "--workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", folder / "artifacts", "--serve-artifacts"),
    ]
    environment = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMINISTRATOR[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test alone",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        wait_for_server(f"{uri}/health", server, folder / "log")
        yield uri
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_for_server(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the server: on a busy machine its first start takes minutes, for imports, migrations, users and a worker."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


async def searched(rest: MlflowRest) -> None:
    """Make one call that needs authorization."""
    await rest.post("experiments/search", {"max_results": 10})


def write(folder: Path, **contents: str) -> dict[str, Path]:
    for name, content in contents.items():
        (folder / name).write_text(content)
    return {name: folder / name for name in contents}


async def test_user_and_password_open_a_real_server_and_are_read_anew(guarded_uri: str, tmp_path: Path) -> None:
    files = write(tmp_path, username=ADMINISTRATOR[0], password="CANARY-wrong")
    settings = Settings(
        tracking_uri=guarded_uri,
        tracking_username_file=files["username"],
        tracking_password_file=files["password"],
    )
    rest = MlflowRest.from_settings(settings)
    with pytest.raises(RejectedError, match=r"HTTP 401 .*check PELAGOS_TRACKING_USERNAME_FILE") as caught:
        await searched(rest)
    assert "CANARY" not in f"{caught.value!r} {caught.value.__cause__!r}"

    files["password"].write_text(f"{ADMINISTRATOR[1]}\n")
    want = DesiredTrackedRun(uid="11", experiment="tenant/guarded", name="run", tags={})
    run = await MlflowTracking(rest).create_run(want, SEALING)
    assert await MlflowTracking(rest).get_run(run.id) == run

    files["password"].write_text("revoked")
    with pytest.raises(RejectedError, match="HTTP 401"):
        await MlflowTracking(rest).find_runs("11")
    await rest.close()


async def test_without_credentials_it_is_said_what_to_set(guarded_uri: str) -> None:
    rest = MlflowRest(guarded_uri)
    with pytest.raises(
        RejectedError, match=r"HTTP 401 .*set PELAGOS_TRACKING_TOKEN_FILE, or PELAGOS_TRACKING_USERNAME"
    ):
        await searched(rest)
    await rest.close()


async def test_a_user_without_permission_is_told_so(guarded_uri: str, tmp_path: Path) -> None:
    administrator = write(tmp_path, username=ADMINISTRATOR[0], password=ADMINISTRATOR[1])
    allowed = MlflowRest(guarded_uri, access=Access(administrator["username"], administrator["password"]))
    await allowed.post("users/create", {"username": "ada", "password": "CANARY-password-of-ada"})
    run = await MlflowTracking(allowed).create_run(
        DesiredTrackedRun(uid="12", experiment="theirs", name="run", tags={}), SEALING
    )
    await allowed.close()
    (tmp_path / "ada").mkdir()
    files = write(tmp_path / "ada", username="ada", password="CANARY-password-of-ada")
    rest = MlflowRest(guarded_uri, access=Access(files["username"], files["password"]))
    with pytest.raises(RejectedError, match=r"HTTP 403 .*and the rights of that user") as caught:
        await rest.get("runs/get", run_id=run.id)
    assert "CANARY" not in str(caught.value)
    await rest.close()


async def test_tls_and_a_token_that_expires(mlflow_uri: str, tmp_path: Path) -> None:
    ours, other = make_authority(tmp_path / "ours"), make_authority(tmp_path / "other", "other")
    token = write(tmp_path, token="CANARY-first")["token"]
    with proxied(mlflow_uri, ours.server) as proxy:
        proxy.authorization = "Bearer CANARY-first"
        rest = MlflowRest(proxy.url, access=Access(token_file=token, ca_file=ours.file))
        await searched(rest)
        proxy.authorization = "Bearer CANARY-second"
        with pytest.raises(RejectedError, match=r"HTTP 401 .*it may have expired") as caught:
            await searched(rest)
        assert "CANARY" not in str(caught.value), "although the proxy quotes what it was sent"
        assert "***" in str(caught.value)
        token.write_text("CANARY-second")
        await searched(rest)
        await rest.close()

        for file in (None, other.file):
            distrusting = MlflowRest(proxy.url, access=Access(token_file=token, ca_file=file))
            with pytest.raises(OutageError, match="not trusted; name its certificate authority in PELAGOS_TRACKING_CA"):
                await searched(distrusting)
            await distrusting.close()


async def test_another_authority_counts_without_a_restart(mlflow_uri: str, tmp_path: Path) -> None:
    old, new = make_authority(tmp_path / "old", "old"), make_authority(tmp_path / "new", "new")
    file = tmp_path / "ca.pem"
    file.write_bytes(old.file.read_bytes())
    with proxied(mlflow_uri, new.server) as proxy:
        rest = MlflowRest(proxy.url, access=Access(ca_file=file))
        with pytest.raises(OutageError, match="not trusted"):
            await searched(rest)
        (tmp_path / "next.pem").write_bytes(old.file.read_bytes() + new.file.read_bytes())
        (tmp_path / "next.pem").replace(file)
        await searched(rest)
        file.write_text("no certificate")
        with pytest.raises(RejectedError, match=r"ca\.pem cannot be used: .*; correct PELAGOS_TRACKING_CA_FILE"):
            await searched(rest)
        file.unlink()
        with pytest.raises(RejectedError, match=r"ca\.pem cannot be used: No such file"):
            await searched(rest)
        await rest.close()
