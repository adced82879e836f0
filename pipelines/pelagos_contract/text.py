"""Escapes untrusted text for display, in one place for terminals, logs, conditions, events, pictures and MLflow. Pure functions.

Names of files and classes, and messages of programs and other servers, are controlled by those who supply the data. Escaping
happens where output leaves our code, so that code that composes messages need not care.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_HIDDEN = (
    "\x00-\x1f\x7f-\x9f"  # C0 and C1: control a terminal
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of surrounding text
    "\u2028\u2029"  # line separators
    "\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible
    "\ud800-\udfff"  # lone surrogates, which cannot be encoded: file names that are not UTF-8
)
_ONE_LINE = re.compile(f"[{_HIDDEN}]")
_LINES = re.compile(f"(?![\n\t])[{_HIDDEN}]")
_LOGIN = re.compile(r"(?<=://)[^\s/?#@:]*:[^\s/?#@]*@")
"""User name and password in a URL, as programs quote it in their errors."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(text: str, *, lines: bool = False) -> str:
    r"""The text with control and invisible characters escaped as \uXXXX, as in JSON, and with logins in URLs removed.

    ``lines``: line feeds and tabs stay.
    """
    return (_LINES if lines else _ONE_LINE).sub(_escaped, _LOGIN.sub("***@", text) if "@" in text else text)


def spelt(text: str, has_letter: Callable[[str], bool]) -> str:
    r"""The text with characters that the font lacks escaped as \uXXXX, since all of them would look like the same empty box."""
    return "".join(each if has_letter(each) else _escaped(each) for each in text)


def shown_output(text: str) -> str:
    """A program's output without colour codes; each state of a progress bar becomes a line."""
    return shown(_COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n"), lines=True)


def shown_in(value: Any) -> Any:
    """``shown`` for all strings in a document, including keys."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return {shown_in(key): shown_in(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown_in(item) for item in value]
    return value


def _escaped(found: re.Match[str] | str) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
