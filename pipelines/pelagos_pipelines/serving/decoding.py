"""Within which ceilings images of strangers are decoded, and in which words they are refused.

Called by decoder.py for the server and by the preparation, whose children decode by images.py. It knows the sandbox only.
"""

from __future__ import annotations

from pelagos_pipelines.sandbox import MEBIBYTE, LimitError, Limits, SandboxError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

NAMES = "JPEG, PNG, TIFF, BMP, WebP or JPEG 2000"
"""What is read, in words."""
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
"""How they begin."""
TOO_MANY_PIXELS = "tooManyPixels"
"""What a task says beside its refusal of an image for that."""


class ImageRefusedError(Exception):
    """The bytes are not an image that is served; the message says why."""


class TooManyPixelsError(ImageRefusedError):
    """The image is larger than the ceiling."""


def limits(ceilings: Ceilings) -> Limits:
    """Of a child that decodes. The deadline is far off: it is for what waits, and busy machines must not refuse images."""
    seconds = ceilings.image_seconds
    return Limits(
        memory=ceilings.image_memory * MEBIBYTE,
        cpu=seconds,
        deadline=30 + 6 * seconds,
        result=max(3 * ceilings.image_megapixels * 1_000_000, ceilings.image_mebibytes * MEBIBYTE),
    )


def environment(ceilings: Ceilings) -> dict[str, str]:
    """What OpenCV and the C library read once, when they are loaded, and what images.py reads."""
    pixels = str(ceilings.image_megapixels * 1_000_000)
    ours = {"OPENCV_IO_MAX_IMAGE_PIXELS": pixels, "OPENCV_FOR_THREADS_NUM": "1", "OPENCV_LOG_LEVEL": "SILENT"}
    # The C library would give back the memory of every image, and take it anew for the next one: a third of the time of a decode.
    kept = {"MALLOC_MMAP_THRESHOLD_": str(8 * MEBIBYTE), "MALLOC_TRIM_THRESHOLD_": str(32 * MEBIBYTE)}
    return ours | kept | ceilings.variables()


def is_common(content: bytes) -> bool:
    """Whether it begins as a JPEG or PNG."""
    return content.startswith((PNG, JPEG))


def require_pixels(width: int, height: int) -> None:
    """Raises TooManyPixelsError for an image of more pixels than the ceiling."""
    allowed = Ceilings.read().image_megapixels
    if width * height > allowed * 1_000_000:
        raise TooManyPixelsError(
            f"the image has {width} x {height} pixels; at most {allowed} megapixels are accepted"
            f" ({raise_it('image_megapixels')})"
        )


def explain(error: SandboxError, ceilings: Ceilings) -> str:
    """Why an image that gave no answer is refused."""
    if isinstance(error, LimitError):
        field = {"memory": "image_memory", "cpu": "image_seconds"}.get(error.kind)
        return f"the image cannot be decoded: {error}" + (f"; {raise_it(field)}" if field else "")
    return f"the image cannot be decoded: its content is damaged or hostile ({error})"


def too_large(size: int, ceilings: Ceilings) -> str:
    """Why a file of more bytes than the ceiling is refused."""
    allowed = ceilings.image_mebibytes * MEBIBYTE
    return f"the image has {size} bytes; at most {allowed} are accepted ({raise_it('image_mebibytes')})"
