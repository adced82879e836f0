"""The letters of what is drawn for people."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from pelagos_contract.text import shown, spelt

_NO_LETTER = "\uffff"
"""No font has it."""


def written(text: str) -> str:
    """Anybody's text as it can be written: what would show as something else, or as an empty box, by its number."""
    return spelt(shown(text), _has_letter)


@lru_cache(maxsize=4096)
def _has_letter(character: str) -> bool:
    face = font(16)
    return character.isspace() or bytes(face.getmask(character)) != bytes(face.getmask(_NO_LETTER))


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, ``size`` pixels high: letters of most languages, on every machine that has this environment."""
    found = find_spec("matplotlib")
    assert found is not None  # a requirement of ours
    assert found.origin is not None
    # Its data alone: to import it takes longer than to draw.
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size)
