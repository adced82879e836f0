"""The ceilings for decoding untrusted images, and the messages for refusing them.

Called by decoder.py for the server and by the preparation, whose children decode with images.py. It imports only the sandbox.
"""

from __future__ import annotations

from pelagos_pipelines.sandbox import MEBIBYTE, LimitError, Limits, SandboxError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

NAMES = "JPEG, PNG, TIFF, BMP, WebP or JPEG 2000"
"""The supported kinds, in words."""
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
"""The first bytes of these files."""
TOO_MANY_PIXELS = "tooManyPixels"
"""The key in the detail of a task's refusal if an image has too many pixels."""


class ImageRefusedError(Exception):
    """The bytes are not an acceptable image; the message says why."""


class TooManyPixelsError(ImageRefusedError):
    """The image has more pixels than the ceiling."""


def limits(ceilings: Ceilings) -> Limits:
    """The limits of a child that decodes. The deadline is generous, so that busy machines do not refuse images."""
    seconds = ceilings.image_seconds
    return Limits(
        memory=ceilings.image_memory * MEBIBYTE,
        cpu=seconds,
        deadline=30 + 6 * seconds,
        result=max(3 * ceilings.image_megapixels * 1_000_000, ceilings.image_mebibytes * MEBIBYTE),
    )


def environment(ceilings: Ceilings) -> dict[str, str]:
    """The variables that OpenCV and the C library read once, when they are loaded, and those that images.py reads."""
    pixels = str(ceilings.image_megapixels * 1_000_000)
    ours = {"OPENCV_IO_MAX_IMAGE_PIXELS": pixels, "OPENCV_FOR_THREADS_NUM": "1", "OPENCV_LOG_LEVEL": "SILENT"}
    # glibc would return the memory of every image and request it again for the next: a third of the time of decoding.
    kept = {"MALLOC_MMAP_THRESHOLD_": str(8 * MEBIBYTE), "MALLOC_TRIM_THRESHOLD_": str(32 * MEBIBYTE)}
    return ours | kept | ceilings.variables()


def is_common(content: bytes) -> bool:
    """Whether the content begins like a JPEG or PNG."""
    return content.startswith((PNG, JPEG))


def require_pixels(width: int, height: int) -> None:
    """Raise TooManyPixelsError for an image with more pixels than the ceiling."""
    allowed = Ceilings.read().image_megapixels
    if width * height > allowed * 1_000_000:
        raise TooManyPixelsError(
            f"the image has {width} x {height} pixels; at most {allowed} megapixels are accepted"
            f" ({raise_it('image_megapixels')})"
        )


def explain(error: SandboxError, ceilings: Ceilings) -> str:
    """The message for refusing an image whose decoding failed in the sandbox."""
    if isinstance(error, LimitError):
        field = {"memory": "image_memory", "cpu": "image_seconds"}.get(error.kind)
        return f"the image cannot be decoded: {error}" + (f"; {raise_it(field)}" if field else "")
    return f"the image cannot be decoded: its content is damaged or hostile ({error})"


def too_large(size: int, ceilings: Ceilings) -> str:
    """The message for refusing a file with more bytes than the ceiling."""
    allowed = ceilings.image_mebibytes * MEBIBYTE
    return f"the image has {size} bytes; at most {allowed} are accepted ({raise_it('image_mebibytes')})"
