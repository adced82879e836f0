"""Text as strangers name files and classes to fool whoever reads it. ``is_fit`` tells whether output takes no orders from it."""

from __future__ import annotations

import re

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J\x9b31m\x85\x08\r\u202eevil\u2066\u2069\u200e\u200f\u061c\u2028\u2029\ufeff\u200b"
    "[bold]loud[/bold][link=http://evil.example]x[/link]:smile:\U000e0041"
)
"""Orders to a terminal, turned directions, line separators, what is not seen, and rich's markup."""
HALF = "\udcff\ud800"
"""No encoding knows it: so Python reads file names that are not UTF-8."""
_ORDERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def is_fit(text: str) -> bool:
    """Nothing in it but what it shows, and line feeds and tabs; nor was markup obeyed."""
    return not _ORDERS.search(text) and ("loud" not in text or "[bold]loud[/bold]" in text) and "😄" not in text
