"""Inspects images for integrity.py in a sandboxed child: size, digest of the pixels, look.

`inspect` is the main task. Only the child needs to import this module, which loads OpenCV and Pillow.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL
from PIL import ExifTags, Image, JpegImagePlugin

from pelagos_pipelines.preparation import looks, measuring
from pelagos_pipelines.sandbox import Answer, TaskRefusedError, child
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving import color, decoding, images, reducing

TRANSPARENT = "transparent"
DIM = "dim"
"""Remarks of this module, in addition to those of images.py."""
_DIM = 64
"""Of 255: an image of 16 bits whose brightest shown sample is below this leaves most of the range unused."""
_WAITING = 1 << 22
"""About how many pixels of images are held to be described together."""
_DEPTH = re.compile(r"cannot handle (\d{1,3})-bit")


def version(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: the versions of the decoders, because another version may decode the same bytes differently."""
    return Answer({"version": f"opencv {cv2.__version__} pillow {PIL.__version__}"})


def inspect(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: decode an image fully, because headers and end markers alone miss damage in between.

    Training, evaluation and serving decode with OpenCV, which applies the EXIF orientation. This task uses the same function, so
    width and height agree with what a model sees. Pillow is asked as well, because ultralytics asks it and would silently leave
    out an image that it refuses. ``channels`` requests sums of the levels, after the correction ``color``. With ``longest``, a
    larger image is reduced to that size before it is returned and summed up.
    """
    answer, grey = _opened(arguments, file.read(), None, digested=True)
    _describe([(answer.document, grey)])
    return answer


def inspect_each(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: like `inspect` for several concatenated images of ``sizes`` bytes, but without digests of their pixels.

    The answer has None for an image that is refused, or whose answer needs more than a document: the caller inspects it again,
    alone. If an image exceeds a ceiling or ends the child, none gets an answer.
    """
    content, start = file.read(), 0
    contents = []
    for size in arguments["sizes"]:
        contents.append(content[start : start + size])
        start += size
    found: list[dict[str, Any] | None] = []
    waiting: list[tuple[dict[str, Any], Any]] = []
    # Pillow is asked about all images before any is decoded: alternating takes it three times as long.
    for one, asked in zip(contents, list(map(_asked, contents)), strict=True):
        if asked is None:
            found.append(None)
            continue
        child.forget_complaints()
        try:
            answer, grey = _opened(arguments, one, asked, digested=False)
        except MemoryError:
            raise
        except Exception:  # the caller inspects it alone, and gets the message then
            found.append(None)
        else:
            found.append(None if answer.raw else answer.document)
            waiting.append((answer.document, grey))
        if sum(grey.size for _, grey in waiting) > _WAITING:
            _describe(waiting)
            waiting.clear()
    _describe(waiting)
    return Answer({"found": found})


def _describe(opened: Sequence[tuple[dict[str, Any], Any]]) -> None:
    """Add looks and measures, from the grey levels, to the documents.

    All looks are computed first, then all measures, so that each kind of work stays in the processor's cache. Alternating takes a
    fifth longer.
    """
    for (document, _), look in zip(opened, looks.of(grey for _, grey in opened), strict=True):
        document["look"] = None if look is None else look.hex()
    for document, grey in opened:
        document["measures"] = measuring.measure(grey)


def _asked(content: bytes) -> tuple[str, ...] | None:
    """Pillow's remarks about an image, None if it refuses it; of other kinds than JPEG and PNG it is not asked."""
    try:
        return _ask_pillow(content) if decoding.is_common(content) else (TRANSPARENT,)
    except decoding.ImageRefusedError:
        return None


def _opened(
    arguments: dict[str, Any], content: bytes, asked: tuple[str, ...] | None, *, digested: bool
) -> tuple[Answer, Any]:
    """The answer without what `_describe` adds, and the grey levels that `_describe` needs.

    ``asked`` are Pillow's remarks; with None it is asked once OpenCV has decoded the image.
    """
    common = decoding.is_common(content)
    try:
        decoded = images.decode(content)
        if asked is None:
            asked = _ask_pillow(content) if common else (TRANSPARENT,)
        remarks = (*decoded.remarks, *asked)
    except decoding.TooManyPixelsError as error:
        raise TaskRefusedError(_with_size(content) or str(error), {decoding.TOO_MANY_PIXELS: True}) from None
    except decoding.ImageRefusedError as error:
        raise TaskRefusedError(_with_depth(content) or str(error)) from None
    height, width = decoded.stored.shape[:2]
    opacity = None
    if TRANSPARENT in remarks:
        opacity = _partial(_opacity(content) if common else decoded.opacity)
    if opacity is None:
        remarks = tuple(remark for remark in remarks if remark != TRANSPARENT)
    found: dict[str, Any] = {"width": width, "height": height}
    if digested:
        found["pixels"] = _identity(decoded.stored, opacity)  # before `seen`, which uses them up
    picture, raw = ({}, b"") if common else _samples(decoded.stored)
    depth = images.depth(decoded.stored)
    shown = images.seen(decoded.stored)
    small = reducing.reduced(shown, arguments.get("longest"))
    if small is not shown:
        picture, raw = _samples(small)
    if depth is not None:
        remarks = (*remarks, f"{depth} bits of 16", *((DIM,) if dim(int(shown.max())) else ()))
    grey = cv2.cvtColor(shown, cv2.COLOR_BGR2GRAY)
    found["remarks"] = remarks
    if (wanted := arguments.get("channels")) is not None:
        found["channels"] = measuring.channels(color.corrected(small, wanted["color"]))
    return Answer(found | picture, raw), grey


def _identity(stored: Any, opacity: Any) -> str:
    """The digest of everything that a file shows: its colours at full depth, and their opacity."""
    height, width = stored.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}:{8 * stored.dtype.itemsize}:".encode())
    digest.update(stored.data)
    if opacity is not None:
        digest.update(b"opacity:")
        digest.update(opacity.data)
    return digest.hexdigest()


def small(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: a picture of ``side`` x ``side`` pixels, red first, for people.

    It shows ``part`` of the image (left, top, width and height as fractions, which may reach beyond it), or all of it. Pixels
    outside of the image have the brightness ``paper``.
    """
    content, side = file.read(), int(arguments["side"])
    left, top, width, height = arguments["part"] or (0, 0, 1, 1)
    try:
        reduction = _reduction(content, side / max(width, height))
        image = images.seen(images.decode(content, reduction=reduction).stored)
    except decoding.ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None
    down, across = image.shape[:2]
    x1, x2 = (round(share * across) for share in (left, left + width))
    y1, y2 = (round(share * down) for share in (top, top + height))
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    scale = side / max(x2 - x1, y2 - y1)
    found = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    paper: Any = np.full((side, side, 3), int(arguments["paper"]), np.uint8)
    if found.size:
        size = [min(side, max(1, round(length * scale))) for length in found.shape[1::-1]]
        shrunk = cv2.resize(found, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        x, y = ((side - length) // 2 for length in size)
        paper[y : y + size[1], x : x + size[0]] = shrunk[..., ::-1]
    return Answer({}, paper.data)


def dim(largest: int) -> bool:
    """Whether an image of 16 bits per sample is dim, by its largest shown level."""
    return largest < _DIM


def _reduction(content: bytes, least: float) -> int:
    """The largest of images.REDUCTIONS with which a JPEG's shorter side keeps at least ``least`` pixels; 1 for other files."""
    Image.MAX_IMAGE_PIXELS = None  # OpenCV checks the size
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            shorter = min(image.size)
    except MemoryError:
        raise
    except Exception:  # it is not a JPEG, or a damaged one, which OpenCV reports
        return 1
    return max(reduction for reduction in images.REDUCTIONS if reduction == 1 or shorter / reduction >= least)


def _samples(stored: Any) -> tuple[dict[str, int], memoryview]:
    """The samples in PNG's order, red first and upper byte first, row by row; and the samples per pixel and bits per sample."""
    grey = bool((stored[..., 0] == stored[..., 1]).all() and (stored[..., 0] == stored[..., 2]).all())
    samples = stored[..., 0] if grey else stored[..., ::-1]
    bits = 8 * stored.dtype.itemsize
    written = np.ascontiguousarray(samples, np.dtype(stored.dtype).newbyteorder(">"))
    return {"samples": 1 if grey else 3, "bits": bits}, written.data


def _opacity(content: bytes) -> Any:
    """The opacity of each pixel; None if one colour means transparent, because the colours contain it then."""
    whole = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if whole is None or whole.ndim < 3 or whole.shape[2] < 4:
        return None
    return np.ascontiguousarray(whole[..., 3])


def _partial(opacity: Any) -> Any:
    """``opacity``, or None when all pixels are opaque."""
    return None if opacity is None or opacity.min() == np.iinfo(opacity.dtype).max else opacity


def _ask_pillow(content: bytes) -> tuple[str, ...]:
    """Remarks about an image from Pillow. Raises ImageRefusedError when Pillow refuses it."""
    Image.MAX_IMAGE_PIXELS = None  # OpenCV checks the size, and Pillow decodes no pixels here
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            transparent = image.has_transparency_data
            orientation = _orientation(image)
            image.verify()
    except MemoryError:
        raise
    except Exception:  # it fails in many ways, and its words may quote the file
        raise decoding.ImageRefusedError(
            "its structure is damaged: OpenCV can read it, Pillow, which training asks, cannot; save it again"
        ) from None
    return (*((TRANSPARENT,) if transparent else ()), *orientation)


def _orientation(image: Image.Image) -> tuple[str, ...]:
    """Remarks about the EXIF orientation."""
    if "exif" not in image.info:  # Pillow would also search after the pixels, where OpenCV does not
        return ()
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF has no effect in OpenCV
        return ()
    return images.turns(value)


def _with_depth(content: bytes) -> str:
    """The message for a JPEG of more than 8 bits per sample, which OpenCV calls damaged; "" for any other file."""
    try:
        JpegImagePlugin.JpegImageFile(io.BytesIO(content)).close()
    except MemoryError:
        raise
    except Exception as error:
        if found := _DEPTH.search(str(error)):
            return f"it is a JPEG of {found[1]} bits a sample, and 8 are read; save it as PNG of 16 bits"
    return ""


def _with_size(content: bytes) -> str:
    """The message for an image that is too large, with the size that Pillow reads from it; "" if it cannot."""
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
