"""Takes a picture of a web page with a browser on this machine, for users of a terminal, and for the documentation."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 60.0
_SETTLED = 3000
"""How long, in milliseconds, a page may take to load its pictures."""


class NoPictureError(Exception):
    """No picture could be taken; the message says why, and what to do."""


def take(address: str, target: Path, environments: Path, size: tuple[int, int] = (1440, 1000)) -> None:
    """Write a picture of the page at ``address`` to ``target``.

    Raises:
        NoPictureError: no browser is installed, or it failed.
    """
    beside = environments / "chromium" / "chromium"
    program = str(beside) if beside.exists() else next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        raise NoPictureError("there is no Chromium on this machine: apt-get install chromium")
    width, height = size
    with tempfile.TemporaryDirectory(prefix="pelagos-browser-") as profile:
        command = [
            program,
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            # Its sandbox refuses to run as root. That is acceptable, because only our own page is opened.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--virtual-time-budget={_SETTLED}",
            f"--screenshot={target}",
            address,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoPictureError(f"{program} failed: {error}") from error
    if done.returncode != 0 or not target.exists():
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise NoPictureError(f"{program} ended with {done.returncode}: {said[0][:300]}")
