"""MLflow's address and login for commands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pelagos.cli import access
from pelagos.embedded import daemon
from pelagos.embedded.layout import Layout
from pelagos.engines.mlflow.notation import mapping
from pelagos.engines.mlflow.rest import AbsentError, MlflowRest
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings
from pelagos_contract.tags import ENVIRONMENT_TAGS

_LONGEST = 4096


class NotReachedError(Exception):
    """MLflow is not running, does not answer, or its address is not configured; the message says what to do."""


def reached(settings: Settings, at: access.Chosen) -> Settings:
    """Settings with MLflow's address and login. Raises NotReachedError."""
    if access.is_embedded(settings, at):
        layout = Layout.of(settings.home)
        found = daemon.look(layout)
        part = found.state.parts.get("mlflow") if found.state is not None and found.runs else None
        if part is None or not part.url:
            raise NotReachedError(f"MLflow does not run with its state in {layout.home}. Start it: pelagos up")
        folder = layout.tracking_credentials
        login = {"tracking_username_file": folder / "username", "tracking_password_file": folder / "password"}
        return settings.model_copy(update={"tracking_uri": part.url, **login})
    if not settings.tracking_uri:
        # Never use the address in status: anyone who can write there would be sent the login.
        raise NotReachedError(
            "set PELAGOS_TRACKING_URI to the address of the MLflow server, as this machine reaches it"
        )
    return settings


def environments(settings: Settings, at: access.Chosen, runs: Sequence[str]) -> list[dict[str, str]]:
    """The environment of each run from MLflow, by name of the variable; empty for a run that MLflow does not have.

    Raises NotReachedError.
    """

    async def ask() -> list[dict[str, str]]:
        rest = MlflowRest.from_settings(reached(settings, at))
        try:
            return [await _environment(rest, run) for run in runs]
        finally:
            await rest.close()

    try:
        return asyncio.run(ask())
    except (OutageError, RejectedError, KeyError, TypeError) as error:
        raise NotReachedError(f"MLflow does not answer: {error}") from error


async def _environment(rest: MlflowRest, run: str) -> dict[str, str]:
    try:
        found = await rest.get("runs/get", run_id=run)
    except AbsentError:
        return {}
    tags = mapping(found["run"]["data"].get("tags"))
    return {name: str(value)[:_LONGEST] for name, value in tags.items() if name.startswith(ENVIRONMENT_TAGS)}


def login(settings: Settings) -> dict[str, str]:
    """The login as the environment variables that mlflow's client reads, for programs of the data plane.

    Raises NotReachedError.
    """
    files = {
        "MLFLOW_TRACKING_USERNAME": settings.tracking_username_file,
        "MLFLOW_TRACKING_PASSWORD": settings.tracking_password_file,
        "MLFLOW_TRACKING_TOKEN": settings.tracking_token_file,
    }
    told = {name: _read(file) for name, file in files.items() if file is not None}
    authority = (
        {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(settings.tracking_ca_file)} if settings.tracking_ca_file else {}
    )
    return told | authority


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotReachedError(f"{file} cannot be read: {error.strerror or error}") from None
