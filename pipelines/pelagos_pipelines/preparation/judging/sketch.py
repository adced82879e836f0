"""Figures made of words, rectangles and pictures: rendered as SVG in a page, and as a PNG beside it that shows the same."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from pelagos_pipelines.pages import words
from pelagos_pipelines.preparation import pictures
from pelagos_pipelines.preparation.lettering import font, written

INK, PAPER = "#1b2530", "#ffffff"
SIZE = 11.5
"""The size of letters in pixels, the same as in the page."""
HEADING = 16
SCALE = 2
"""Pixels of a PNG per pixel of the page, because PNG files are viewed alone, and printed."""
_MARGIN, _HEAD = 12, 34
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


@dataclass(frozen=True)
class Word:
    """Text whose baseline starts, is centred or ends at a place, turned by degrees. ``told`` is its tooltip."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    turned: int = 0
    colour: str = INK
    told: str = ""

    @property
    def svg(self) -> str:
        """The SVG element."""
        turned = f' transform="rotate({self.turned} {self.x:g} {self.y:g})"' if self.turned else ""
        anchor = "" if self.anchor == "start" else f' text-anchor="{self.anchor}"'
        colour = "" if self.colour == INK else f' style="fill:{self.colour}"'
        # Text without a tooltip must not hide the tooltip of what is behind it.
        said = f"<title>{words(self.told)}</title>" if self.told else ""
        passed = "" if self.told else ' pointer-events="none"'
        return f'<text x="{self.x:g}" y="{self.y:g}"{turned}{anchor}{colour}{passed}>{words(self.text)}{said}</text>'

    def draw(self, picture: Image.Image, top: float) -> None:
        """Draw on a picture in which the figure begins at ``top``."""
        letters, text = font(round(SIZE * SCALE)), written(self.text)
        place = round(self.x * SCALE), round((self.y + top) * SCALE)
        if not self.turned:
            ImageDraw.Draw(picture).text(place, text, self.colour, letters, _ANCHORS[self.anchor])
            return
        reach = int(letters.getlength(text) + letters.size)
        mask = Image.new("L", (2 * reach, 2 * reach))
        ImageDraw.Draw(mask).text((reach, reach), text, 255, letters, _ANCHORS[self.anchor])
        mask = mask.rotate(-self.turned, Image.Resampling.BICUBIC)
        picture.paste(self.colour, (place[0] - reach, place[1] - reach), mask)


@dataclass(frozen=True)
class Patch:
    """A rectangle of one colour, with an optional frame. ``told`` is its tooltip."""

    left: float
    top: float
    width: float
    height: float
    colour: str
    frame: str = ""
    told: str = ""

    @property
    def svg(self) -> str:
        """The SVG element."""
        frame = f' stroke="{self.frame}"' if self.frame else ""
        rectangle = (
            f'<rect x="{self.left:g}" y="{self.top:g}" width="{self.width:.4g}" height="{self.height:g}"'
            f' fill="{self.colour}"{frame}/>'
        )
        return f"<g><title>{words(self.told)}</title>{rectangle}</g>" if self.told else rectangle

    def draw(self, picture: Image.Image, top: float) -> None:
        """Draw on a picture in which the figure begins at ``top``."""
        corner = round(self.left * SCALE), round((self.top + top) * SCALE)
        other = round((self.left + self.width) * SCALE) - 1, round((self.top + top + self.height) * SCALE) - 1
        if other[0] >= corner[0]:
            ImageDraw.Draw(picture).rectangle((*corner, *other), self.colour, self.frame or None, SCALE)


@dataclass(frozen=True)
class Raster:
    """A picture that was drawn here, as PNG."""

    left: float
    top: float
    width: float
    height: float
    png: bytes

    @property
    def svg(self) -> str:
        """The SVG element."""
        data = base64.b64encode(self.png).decode("ascii")
        return (
            f'<image href="data:image/png;base64,{data}" x="{self.left:g}" y="{self.top:g}" width="{self.width:g}"'
            f' height="{self.height:g}"/>'
        )

    def draw(self, picture: Image.Image, top: float) -> None:
        """Draw on a picture in which the figure begins at ``top``."""
        size = round(self.width * SCALE), round(self.height * SCALE)
        with Image.open(io.BytesIO(self.png), formats=("PNG",)) as ours:
            picture.paste(
                ours.resize(size, Image.Resampling.NEAREST), (round(self.left * SCALE), round((self.top + top) * SCALE))
            )


@dataclass(frozen=True)
class Figure:
    """A figure. ``parts`` are drawn in order; ``described`` is the text for screen readers, and the heading of the PNG."""

    width: float
    height: float
    described: str
    parts: Sequence[Word | Patch | Raster]

    @property
    def svg(self) -> str:
        """The SVG for a page, without a heading: pages have their own."""
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" width="{self.width:.0f}" height="{self.height:.0f}" '
            f'role="img" aria-label="{words(self.described)}">{"".join(part.svg for part in self.parts)}</svg>'
        )

    @property
    def png(self) -> bytes:
        """The figure as a PNG, under its heading."""
        heading, title = font(HEADING * SCALE), written(self.described)
        width = max(self.width * SCALE, heading.getlength(title) + 2 * _MARGIN * SCALE)
        size = round(width), round((self.height + _HEAD + _MARGIN) * SCALE)
        picture = Image.new("RGB", size, PAPER)
        ImageDraw.Draw(picture).text((_MARGIN * SCALE, 24 * SCALE), title, INK, heading, "ls")
        for part in self.parts:
            part.draw(picture, _HEAD)
        return pictures.png(picture.tobytes(), *size, 3, 8)
