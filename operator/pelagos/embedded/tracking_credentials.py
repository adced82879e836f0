"""Users, passwords and the session key of the embedded MLflow. Created before it starts; read by it, the operator and people.

Each value has its own file, so that each reader gets only what it needs. A missing file is created again: to change a password,
delete its file and restart.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from pelagos_contract import disk

if TYPE_CHECKING:
    from pathlib import Path

    from pelagos.embedded.layout import Layout

USER, STEPS_USER = "pelagos", "pelagos-steps"
_BYTES = 32


def prepare(layout: Layout) -> None:
    """Create the files that are missing. Raises OSError."""
    folder = layout.tracking_credentials
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _keep(folder / "username", USER)
    _keep(folder / "steps-username", STEPS_USER)
    for name in ("password", "steps-password", "secret-key"):
        _keep(folder / name, secrets.token_urlsafe(_BYTES))


def settings(layout: Layout) -> dict[str, str]:
    """The operator's settings with the paths of these files."""
    folder = layout.tracking_credentials
    return {
        "PELAGOS_TRACKING_USERNAME_FILE": str(folder / "username"),
        "PELAGOS_TRACKING_PASSWORD_FILE": str(folder / "password"),
        "PELAGOS_STEPS_TRACKING_USERNAME_FILE": str(folder / "steps-username"),
        "PELAGOS_STEPS_TRACKING_PASSWORD_FILE": str(folder / "steps-password"),
    }


def _keep(file: Path, content: str) -> None:
    """Write the file unless it already has content."""
    try:
        found = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        found = ""
    if not found:
        disk.write_atomically(file, f"{content}\n", mode=disk.PRIVATE)
