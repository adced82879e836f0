"""The settings of the installation that a command works with, and consoles for its output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from typing_extensions import override

from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.settings import Settings
from pelagos_contract.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment


def settings() -> Settings:
    """Settings with absolute folders, because the supervisor's working folder differs from the user's. Raises StartError."""
    given = Settings()
    if link := Layout.strangers_link(given.home):
        raise StartError(
            f"PELAGOS_HOME leads through the link {link}, which belongs to another user, who could redirect it. "
            "Set PELAGOS_HOME to a folder of your own."
        )
    layout = Layout.of(given.home)
    return given.model_copy(update={"home": layout.home, "environments": given.environments.expanduser().absolute()})


class PlainConsole(Console):
    """A console that interprets neither control characters nor rich's markup in its output.

    Styles are given as Text. All output goes through ``render``, including tables and live displays.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of a line, each made safe to display."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text, lines=True))


def progress_console() -> Console:
    """The console for progress and problems: standard error, so that results can be piped."""
    return PlainConsole(stderr=True)


def result_console(piped_width: int = 250) -> Console:
    """The console for results. When piped, tables may be up to ``piped_width`` characters wide."""
    return PlainConsole(width=None if sys.stdout.isatty() else piped_width)
