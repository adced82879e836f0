"""Where MLflow is for commands, and how they log in there."""

from __future__ import annotations

from pelagos.cli import access
from pelagos.embedded import daemon
from pelagos.embedded.layout import Layout
from pelagos.settings import Settings


class NotReachedError(Exception):
    """It does not run, or nobody said where it is; the message says what to do."""


def reached(settings: Settings, at: access.Chosen) -> Settings:
    """Settings that say where MLflow is and how to log in there. Raises NotReachedError."""
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
        # Never the address in status: whoever can write there would be sent the login.
        raise NotReachedError(
            "set PELAGOS_TRACKING_URI to the address of the MLflow server, as this machine reaches it"
        )
    return settings
