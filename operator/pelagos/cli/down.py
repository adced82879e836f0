"""``pelagos down``: stop everything."""

from __future__ import annotations

import time

from rich.console import Console

from pelagos.cli import installed
from pelagos.embedded import daemon
from pelagos.embedded.layout import Layout
from pelagos.settings import Settings


def down() -> None:
    """Stop Pelagos with its pipelines and model servers. State stays; `pelagos up` continues from it.

    The exit code is also 0 when nothing is running.
    """
    take_down(installed.settings(), installed.progress_console())


def take_down(settings: Settings, console: Console) -> None:
    """Stop everything, including what a killed supervisor left running. Raises StartError when that is impossible."""
    layout = Layout.of(settings.home)
    began = time.monotonic()
    with console.status("stopping ..."):
        stopped = daemon.stop(layout)
    if stopped:
        console.print(
            f"Stopped in {time.monotonic() - began:.1f} s. State stays in {layout.home}.", markup=False, soft_wrap=True
        )
    else:
        console.print(f"Nothing is running with its state in {layout.home}.", markup=False, soft_wrap=True)
