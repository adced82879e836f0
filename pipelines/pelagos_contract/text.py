"""Strangers' text made fit to be shown: one place for terminals, logs, conditions, events, pictures and MLflow. Pure.

Names of files and classes, messages of programs and of other servers come from whoever supplied data. Used where output leaves
us, so that no place that makes a message has to think of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_HIDDEN = (
    "\x00-\x1f\x7f-\x9f"  # C0 and C1: a terminal obeys them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn the direction of what stands beside them
    "\u2028\u2029"  # line separators
    "\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # not to be seen
    "\ud800-\udfff"  # half of a character, which no encoding knows: file names that are not UTF-8
)
_ONE_LINE = re.compile(f"[{_HIDDEN}]")
_LINES = re.compile(f"(?![\n\t])[{_HIDDEN}]")
_LOGIN = re.compile(r"(?<=://)[^\s/?#@:]*:[^\s/?#@]*@")
"""Name and password in an address, as programs quote it in their errors."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(text: str, *, lines: bool = False) -> str:
    r"""The text with every character that shows as something else written as \uXXXX, as JSON has it.

    Logins in addresses are hidden. ``lines``: line feeds and tabs stay.
    """
    return (_LINES if lines else _ONE_LINE).sub(_escaped, _LOGIN.sub("***@", text) if "@" in text else text)


def spelt(text: str, has_letter: Callable[[str], bool]) -> str:
    r"""The text with every character for which there is no letter written as \uXXXX: an empty box stands for any of them."""
    return "".join(each if has_letter(each) else _escaped(each) for each in text)


def shown_output(text: str) -> str:
    """What is to be seen of a program's output: without colours; a progress bar's states are lines of their own."""
    return shown(_COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n"), lines=True)


def shown_in(value: Any) -> Any:
    """The same for all texts in a document, keys too."""
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
