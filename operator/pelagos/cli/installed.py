"""The installation that a command is about, from settings."""

from __future__ import annotations

import sys

from rich.console import Console

from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.settings import Settings


def settings() -> Settings:
    """Settings with absolute folders: the supervisor runs in another one than the user. Raises StartError."""
    given = Settings()
    if link := Layout.strangers_link(given.home):
        raise StartError(
            f"PELAGOS_HOME leads through the link {link}, which somebody else has made and could let lead elsewhere. "
            "Set PELAGOS_HOME to a folder of your own."
        )
    layout = Layout.of(given.home)
    return given.model_copy(update={"home": layout.home, "environments": given.environments.expanduser().absolute()})


def progress_console() -> Console:
    """Where progress and problems go: standard error, so that results can be piped."""
    return Console(stderr=True, highlight=False)


def result_console() -> Console:
    """Where results go. Piped, tables are as wide as they need."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 250)
