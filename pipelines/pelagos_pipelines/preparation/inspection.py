"""What integrity.py finds out about one image, in a child of the sandbox: size, digest of the pixels, perceptual hash.

`inspect` is the task; the child imports this module, nobody else needs to. It has OpenCV and Pillow.
"""

from __future__ import annotations

import hashlib
import io
import re
from functools import cache
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL
from PIL import ExifTags, Image, JpegImagePlugin

from pelagos_pipelines.sandbox import Answer, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving import decoding, images

TRANSPARENT = "transparent"
TURNED = "turned"
"""What is remarked of images here, beside what images.py remarks."""
SIDE = 32
"""Side of the thumbnail that the perceptual hash sees."""
KEPT = 8
"""The hash holds the signs of the 8 x 8 lowest frequencies."""
LEAST_CONTRAST = 64
"""In 16ths of a grey level, of the thumbnail: below it an image is plain."""
_DEPTH = re.compile(r"cannot handle (\d{1,3})-bit")
_SCALE = 4096
_GREY = [29, 150, 77]
"""Shares of blue, green and red in grey (ITU-R BT.601), in 256ths."""


def version(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """What decodes here: another version may find something else in the same bytes."""
    return Answer({"version": f"opencv {cv2.__version__} pillow {PIL.__version__}"})


def inspect(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Decode fully: headers and end markers alone miss damage in between.

    Training, evaluation and serving decode with OpenCV, which applies the EXIF orientation; so do we, by the same function, and
    width and height cannot disagree with what a model sees. Pillow has its say because ultralytics asks it and would leave
    out, without a word, an image that it refuses.
    """
    content = file.read()
    try:
        decoded = images.decode(content)
        remarks = (*decoded.remarks, *_ask_pillow(content))
    except decoding.TooManyPixelsError as error:
        raise TaskRefusedError(_with_size(content) or str(error)) from None
    except decoding.ImageRefusedError as error:
        raise TaskRefusedError(_with_depth(content) or str(error)) from None
    height, width = decoded.stored.shape[:2]
    opacity = _opacity(content) if TRANSPARENT in remarks else None
    if opacity is None:
        remarks = tuple(remark for remark in remarks if remark != TRANSPARENT)
    found = {"width": width, "height": height, "pixels": _identity(decoded.stored, opacity), "remarks": remarks}
    return Answer(found | {"phash": perceptual_hash(images.seen(decoded.stored))})


def _opacity(content: bytes) -> Any:
    """How opaque each pixel is; None when all are, or when a colour stands for what is transparent: the colours tell, then."""
    whole = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if whole.ndim < 3 or whole.shape[2] < 4:
        return None
    opacity = np.ascontiguousarray(whole[..., 3])
    return None if opacity.min() == np.iinfo(opacity.dtype).max else opacity


def _identity(stored: Any, opacity: Any) -> str:
    """Digest of all that a file shows: its colours at full depth, and where they are transparent."""
    height, width = stored.shape[:2]
    identity = hashlib.sha256(f"{width}x{height}:{8 * stored.dtype.itemsize}:".encode())
    identity.update(stored.data)
    if opacity is not None:
        identity.update(b"opacity:")
        identity.update(opacity.data)
    return identity.hexdigest()


def perceptual_hash(pixels: Any) -> int | None:
    """64-bit pHash: signs, against their median, of the lowest frequencies of a 32 x 32 grey thumbnail.

    After Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010). In integers throughout, so that
    every machine finds the same hash and with it the same version. None for a plain image: noise alone would decide its bits.
    """
    thumbnail = _thumbnail(pixels)
    if int(thumbnail.max()) - int(thumbnail.min()) < LEAST_CONTRAST:
        return None
    waves = _waves()
    spectrum = (waves @ thumbnail @ waves.T).ravel()
    above = spectrum > np.median(spectrum[1:])
    above[0] = False  # the mean brightness is no structure
    return int.from_bytes(np.packbits(above).tobytes(), "big")


@cache
def _waves() -> Any:
    """The 8 lowest cosines over 32 steps, as integers."""
    angles = np.pi * np.outer(np.arange(KEPT), 2 * np.arange(SIDE) + 1) / (2 * SIDE)
    return np.rint(np.cos(angles) * _SCALE).astype(np.int64)


def _thumbnail(pixels: Any) -> Any:
    """Mean grey levels in 16ths, int64 [32, 32]; every bin has at least one pixel, also of a smaller image."""
    step = max(1, min(pixels.shape[:2]) // (16 * SIDE))  # means of a large image do not need all of its pixels
    # Sums modulo 2^32: their differences, which are sums within a bin, are exact.
    total = cv2.integral(np.ascontiguousarray(pixels[::step, ::step])).view(np.uint32)
    rows, columns = (np.arange(SIDE) * (side - 1) // SIDE for side in total.shape[:2])
    below, right = (
        np.maximum(np.append(starts[1:], side - 1), starts + 1)
        for starts, side in zip((rows, columns), total.shape[:2], strict=True)
    )
    bottom, top = total[below], total[rows]
    sums = bottom[:, right] - bottom[:, columns] - top[:, right] + top[:, columns]
    area: Any = np.outer(below - rows, right - columns)
    return sums.astype(np.int64) @ _GREY // area // 16


def _ask_pillow(content: bytes) -> tuple[str, ...]:
    """What Pillow remarks of an image. Raises ImageRefusedError when it refuses it."""
    Image.MAX_IMAGE_PIXELS = None  # OpenCV has judged the size by now
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            transparent = image.has_transparency_data
            turned = _is_turned(image)
            image.verify()
    except MemoryError:
        raise
    except Exception:  # it fails in many ways, and its words may quote the file
        raise decoding.ImageRefusedError(
            "its structure is damaged: OpenCV can read it, Pillow, which training asks, cannot; save it again"
        ) from None
    return ((TRANSPARENT,) if transparent else ()) + ((TURNED,) if turned else ())


def _is_turned(image: Image.Image) -> bool:
    if "exif" not in image.info:  # Pillow would look for it behind the pixels, which OpenCV does not
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF turns nothing
        return False


def _with_depth(content: bytes) -> str:
    """The words for a JPEG of more than 8 bits a sample, which OpenCV calls damaged; "" for any other file."""
    try:
        JpegImagePlugin.JpegImageFile(io.BytesIO(content)).close()
    except MemoryError:
        raise
    except Exception as error:
        if found := _DEPTH.search(str(error)):
            return f"it is a JPEG of {found[1]} bits a sample, and 8 are read; save it as PNG of 16 bits"
    return ""


def _with_size(content: bytes) -> str:
    """The words for an image that is too large, with the size that Pillow reads from it; "" when it reads none."""
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            width, height = image.size
    except MemoryError:
        raise
    except Exception:
        return ""
    allowed = Ceilings.read().image_megapixels
    return (
        f"the image has {width} x {height} pixels; at most {allowed} megapixels are accepted"
        f" ({raise_it('image_megapixels')})"
    )
