"""How much of what data suppliers chose goes into a status, which the API server bounds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_CLASSES = 100
MOST_WARNINGS = 50
LONGEST = 500
"""Characters of a name or a warning."""
_MOST = {"classes": MOST_CLASSES, "warnings": MOST_WARNINGS}


def bounded(status: Mapping[str, Any], full: str) -> dict[str, Any]:
    """The fields with lists cut to their first entries, and texts to LONGEST; ``truncated`` says which lists are.

    ``full`` is where the whole lists are.
    """
    out: dict[str, Any] = {key: _short(value) for key, value in status.items()}
    cut = []
    for key, most in _MOST.items():
        entries = out.get(key) or ()
        if len(entries) > most:
            out[key] = entries[:most]
            cut.append({"field": key, "shown": most, "total": len(entries), "full": full})
    return {**out, "truncated": cut or None}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}\u2026"
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return value
