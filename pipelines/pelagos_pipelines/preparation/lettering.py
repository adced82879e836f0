"""Fonts and printable text for pictures that are drawn for people."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from pelagos_contract.text import shown, spelt

_NO_LETTER = "\uffff"
"""A character that no font has a letter for."""


def written(text: str) -> str:
    """Untrusted text as it can be drawn: misleading characters, and those without a letter in the font, become their number."""
    return spelt(shown(text), _has_letter)


@lru_cache(maxsize=4096)
def _has_letter(character: str) -> bool:
    face = font(16)
    return character.isspace() or bytes(face.getmask(character)) != bytes(face.getmask(_NO_LETTER))


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, ``size`` pixels high. It has letters of most languages, and is on every machine with this environment."""
    found = find_spec("matplotlib")
    assert found is not None  # one of our requirements
    assert found.origin is not None
    # Only its data is used: importing it takes longer than drawing.
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size)
