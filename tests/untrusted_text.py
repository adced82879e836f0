"""Names of files and classes that were crafted to deceive their reader. ``is_fit`` checks that output obeys none of them."""

from __future__ import annotations

import re

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J\x9b31m\x85\x08\r\u202eevil\u2066\u2069\u200e\u200f\u061c\u2028\u2029\ufeff\u200b"
    "[bold]loud[/bold][link=http://evil.example]x[/link]:smile:\U000e0041"
)
"""Terminal control sequences, reversed text direction, line separators, invisible characters, and rich's markup."""
HALF = "\udcff\ud800"
"""Lone surrogates, which no encoding has: Python decodes file names that are not UTF-8 to these."""
_ORDERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def is_fit(text: str) -> bool:
    """Whether the text has no hidden characters except line feeds and tabs, and no markup was obeyed."""
    return not _ORDERS.search(text) and ("loud" not in text or "[bold]loud[/bold]" in text) and "😄" not in text
