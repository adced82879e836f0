"""Opens pages in headless Chromium, as people see them."""

from __future__ import annotations

import html
import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

CHROMIUM = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs")) / "chromium/chromium"
OWN = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")
"""Hosts that Chromium contacts by itself, for updates and the time, on any page."""
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1200,1600",
)


def shown(page: Path, folder: Path, *more: str) -> tuple[str, Path, set[str]]:
    """Open a page; returns its final DOM, a screenshot, and all hosts that were contacted."""
    picture, log = folder / "page.png", folder / "net.json"
    command: list[str | Path] = [
        CHROMIUM,
        *OPTIONS,
        *more,
        f"--user-data-dir={folder / 'profile'}",
        f"--log-net-log={log}",
    ]
    command += ["--dump-dom", f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    addresses = (str(event.get("params", {}).get("url", "")) for event in events)
    return done.stdout, picture, {urlsplit(address).hostname or "" for address in addresses} - {""}


def width_on_a_phone(page: Path, folder: Path, width: int = 360) -> int:
    """The width of a page in pixels in a window ``width`` pixels wide; anything beyond that has to be scrolled sideways."""
    frame = folder / "phone.html"
    frame.write_text(
        f'<iframe src="{html.escape(page.as_uri())}" style="width:{width}px;height:800px;border:0" onload="'
        'document.title=this.contentDocument.documentElement.scrollWidth"></iframe>',
        encoding="utf-8",
    )
    became, _, _ = shown(frame, folder, "--allow-file-access-from-files")
    return int(became.partition("<title>")[2].partition("</title>")[0])
