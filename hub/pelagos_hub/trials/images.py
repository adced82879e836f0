"""Checks format and size of an uploaded image by its header, before anything decodes it. Nothing is kept."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass

from PIL import BmpImagePlugin, Image, Jpeg2KImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from pelagos_hub.security import MOST_UPLOADED

MOST_PIXELS = 100_000_000
_READERS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    BmpImagePlugin.BmpImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
)
"""Pillow's formats that give their size without decoding pixels. WebP is measured here: Pillow would first allocate all of it."""
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\x00",
    b"MM\x00*",
    b"BM",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
)
_SHOWN = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp"}
"""Media types of the formats that every browser shows."""
_MOST_SHOWN = 12 * 2**20
KINDS = "a JPEG, PNG, TIFF, BMP, WebP or JPEG 2000"


class ImageRefusedError(ValueError):
    """The image is not accepted; the message says why, and what would be."""


@dataclass(frozen=True)
class Upload:
    """An accepted image, which may be sent to a model."""

    content: bytes
    kind: str
    width: int
    height: int

    def in_page(self) -> str:
        """The image as a data URL, since the hub does not store it; empty when it is too large or browsers cannot show it."""
        if self.kind not in _SHOWN or len(self.content) > _MOST_SHOWN:
            return ""
        return f"data:{_SHOWN[self.kind]};base64,{base64.b64encode(self.content).decode()}"


def measured(content: bytes) -> Upload:
    """The format and size of ``content``. Raises ImageRefusedError."""
    if not content:
        raise ImageRefusedError(f"No image was sent. Choose {KINDS}.")
    if len(content) > MOST_UPLOADED:
        raise ImageRefusedError(
            f"The image has {len(content) / 2**20:.0f} MiB; at most {MOST_UPLOADED // 2**20} are accepted."
        )
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind, size = "WEBP", _webp(content)
    elif content.startswith(_MAGIC):
        kind, size = _by_pillow(content)
    else:
        raise ImageRefusedError(f"This is not an image of an accepted kind; send {KINDS}.")
    width, height = size
    if not 0 < width * height <= MOST_PIXELS:
        raise ImageRefusedError(
            f"The image has {width} x {height} pixels; at most {MOST_PIXELS // 10**6} million are accepted."
        )
    return Upload(content, kind, width, height)


def _by_pillow(content: bytes) -> tuple[str, tuple[int, int]]:
    try:
        with warnings.catch_warnings():
            # Pillow warns at its own limit; ours is checked by the caller.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=[reader.format for reader in _READERS]) as image:
                return str(image.format), image.size
    except Image.DecompressionBombError:
        raise ImageRefusedError(f"The image has more than {MOST_PIXELS // 10**6} million pixels.") from None
    except Exception as error:
        # Pillow's readers raise any exception on damaged files.
        raise ImageRefusedError(f"The image is damaged; send {KINDS}.") from error


def _webp(content: bytes) -> tuple[int, int]:
    """Width and height from the header of a WebP container (RFC 9649)."""
    chunk, body = content[12:16], content[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ImageRefusedError(f"The image is damaged; send {KINDS}.")
