"""Draws a terminal session that script(1) recorded, as a picture. Run by tools/demo_picture.sh.

Arguments: the session, Chromium, and the picture.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 110
_SCRIPT = re.compile(r"^Script (?:started|done) .*\n?", re.MULTILINE)
_CURSOR = re.compile(r"\x1b\[\??[0-9;]*[A-LN-Zf-ln-z]")
"""Escape sequences that move the cursor, erase or hide: all except colours."""
_UP = re.compile(r"\x1b\[(\d*)A")


def screen(session: str) -> list[str]:
    """The final lines of the screen, without those that were overwritten."""
    lines: list[str] = [""]
    row = 0
    for piece in re.split(r"(\r?\n|\r|\x1b\[\d*A|\x1b\[2K)", _SCRIPT.sub("", session)):
        if up := _UP.fullmatch(piece):
            row = max(0, row - int(up[1] or 1))
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece in {"\n", "\r\n"}:
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece != "\r":
            lines[row] += _CURSOR.sub("", piece)
    return lines


def main(session: Path, chromium: Path, picture: Path) -> None:
    """Draw the session; the picture is as high as its content."""
    text = "\n".join(screen(session.read_bytes().decode(errors="replace"))).strip()
    console = Console(record=True, width=COLUMNS, file=sys.stderr, force_terminal=True)
    console.print(Text.from_ansi(text))
    drawn = console.export_svg(title="pelagos demo")
    # Without the web fonts that rich refers to.
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)
    assert found is not None
    width, height = (round(float(side)) for side in found.groups())
    with tempfile.TemporaryDirectory() as name:
        page = Path(name, "terminal.html")
        page.write_text(f'<meta charset="utf-8"><body style="margin:0">{drawn}', encoding="utf-8")
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
        command += [f"--user-data-dir={name}/profile", f"--window-size={width},{height}", f"--screenshot={picture}"]
        subprocess.run([*map(str, command), page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
