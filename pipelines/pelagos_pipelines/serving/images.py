"""Decodes images, in a sandboxed child of decoder.py or of the preparation.

Headers of JPEG and PNG are left to OpenCV's decoders, which refuse by the ceiling in the environment before they allocate memory.
It may import only numpy, OpenCV and the sandbox, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_pipelines.sandbox import Answer, TaskRefusedError, child
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving import color, encodings, reducing, scans, tasks
from pelagos_pipelines.serving.decoding import JPEG, NAMES, PNG, ImageRefusedError, TooManyPixelsError, is_common
from pelagos_pipelines.serving.geometry import Pixels

tasks.load()  # before children are forked

NO_END = "no end marker"
STRAY_BYTES = "stray bytes"
TURNED, FLIPPED, ANIMATED = "turned", "flipped", "animated"
"""Remarks of `decode` about usable images, which the preparation turns into sentences."""
DEPTHS = (8, 12, 16)
"""The numbers of bits that samples of 16-bit images may be taken to use."""
REDUCTIONS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_OUT_OF_MEMORY = re.compile(r"insufficient memory|out of memory|bad_alloc", re.I)
_DAMAGE = re.compile(
    r"premature end|bad Huffman|instead of RST|Inconsistent progression|Corrupt JPEG data: (?!\d+ extraneous)"
    r"|extraneous bytes before marker 0x(c4|da|d[0-7])",  # between scans, and within one, no camera pads
    re.I,
)
"""libjpeg's messages when pixels are missing. It returns grey or repeated ones instead, and OpenCV reports no error."""
_STRAY = re.compile(r"extraneous bytes before marker 0xd9", re.I)
"""Before the end marker: a camera's padding, or the result of a changed byte. There is no way to know which."""
_NO_MEMORY = -4
"""OpenCV's error code for a lack of memory."""


@dataclass(frozen=True)
class Decoded:
    """A decoded image: ``stored`` [height, width, 3], blue first, upright, with the file's 8 or 16 bits.

    `seen` converts it to pixels. ``remarks`` say what is odd about the file.
    """

    stored: npt.NDArray[Any]
    remarks: tuple[str, ...] = ()
    opacity: npt.NDArray[Any] | None = None
    """The opacity of each pixel, [height, width], for files other than JPEG and PNG that have one."""


def nothing(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """A task that does nothing, to show that a child can be started."""
    return Answer()


def canvas(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: the image on a model's canvas, by ``task``, ``head``, ``size``, ``stride``, ``color`` and ``longest``."""
    try:
        image = seen(decode(file.read()).stored)
    except ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None
    shown = color.corrected(reducing.reduced(image, arguments["longest"]), arguments["color"])
    placed = tasks.named(arguments["task"], arguments["head"]).fitted(shown, arguments["size"], arguments["stride"])
    return Answer({"width": image.shape[1], "height": image.shape[0]}, np.ascontiguousarray(placed.canvas).data)


def pixels(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: all pixels of the image, blue first, for callers that cut it into tiles or draw on it."""
    try:
        image = seen(decode(file.read()).stored)
    except ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None
    return Answer({"width": image.shape[1], "height": image.shape[0]}, np.ascontiguousarray(image).data)


def decode_known(content: bytes) -> Pixels:
    """The pixels of a JPEG or PNG that a child has decoded before, and whose digest was checked. For use in any process.

    Images in other encodings are PNG files in versions, which were written from pixels that a child has decoded.

    Raises:
        ImageRefusedError: it cannot be decoded.
        MemoryError: there is too little memory for its pixels.
    """
    if not is_common(content):
        raise ImageRefusedError("the image is neither JPEG nor PNG, and only these are decoded here")
    try:
        stored = _stored(content)
    except cv2.error as error:
        if error.code == _NO_MEMORY:
            raise MemoryError(f"no memory to decode an image: {error}") from None
        raise ImageRefusedError(f"the image cannot be decoded: OpenCV ends with code {error.code}") from None
    if stored is None:
        raise ImageRefusedError("the image cannot be decoded: its content is damaged")
    return seen(stored)


def decode(content: bytes, *, narrow: bool = False, reduction: int = 1) -> Decoded:
    """Decode an image. For use in a child. With ``narrow``, a grey image keeps its single channel.

    ``reduction``, a key of REDUCTIONS, shortens the sides of a JPEG, unless it is narrow, and saves time.

    Raises:
        ImageRefusedError: it is damaged, above the ceiling of pixels, or of an unsupported kind.
        MemoryError: it does not fit in the child.
    """
    try:
        if not is_common(content):
            return _other(content, narrow=narrow)
        stored = _stored(content, narrow=narrow, reduction=reduction)
    except cv2.error as error:
        raise _meaning(error) from None
    said = child.complaints()
    if _OUT_OF_MEMORY.search(said):
        raise MemoryError
    if stored is None and not said and child.took_share() > 0.25:  # libjpeg does not report that it was short of memory
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged, or it needs more than"
            f" {Ceilings.read().image_memory} MiB of memory ({raise_it('image_memory')})"
        )
    if stored is None or _DAMAGE.search(said):
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged, or ends too early; send a complete JPEG or PNG"
        )
    if content.startswith(JPEG):
        return Decoded(stored, _remarks(content, said))
    return Decoded(stored, (ANIMATED,) if encodings.is_animated_png(content) else ())


def _other(content: bytes, *, narrow: bool) -> Decoded:
    """Decode an image that is neither JPEG nor PNG."""
    found = encodings.decode(content)
    if found is None:
        raise ImageRefusedError(f"the image is not {NAMES}; encode it as one of these")
    upright = _upright(found.colours, found.orientation)
    is_wide = narrow or upright.shape[2] == 3
    whole = upright if is_wide else np.broadcast_to(upright, (*upright.shape[:2], 3))
    opacity = None if found.opacity is None else np.ascontiguousarray(_upright(found.opacity, found.orientation))
    return Decoded(np.ascontiguousarray(whole), turns(found.orientation), opacity)


def turns(orientation: int) -> tuple[str, ...]:
    """The remark for an EXIF orientation: TURNED if it exchanges width and height, FLIPPED if it does not, none if upright."""
    return (TURNED,) if orientation in range(5, 9) else (FLIPPED,) if orientation in range(2, 5) else ()


def _upright(stored: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The image with its EXIF orientation applied."""
    turned = stored.swapaxes(0, 1) if orientation >= 5 else stored
    # By orientation from 1 on, the first row and column of the file are: top and left, top and right, bottom and right, bottom
    # and left; then left and top, right and top, right and bottom, left and bottom.
    down = orientation in {3, 4, 7, 8}
    left = orientation in {2, 3, 6, 7}
    return turned[:: -1 if down else 1, :: -1 if left else 1]


def depth(stored: npt.NDArray[Any]) -> int | None:
    """How many bits an image of 16 bits per sample uses, one of DEPTHS; None for an image of 8 bits."""
    return depth_of(int(stored.max())) if stored.dtype == np.uint16 else None


def depth_of(largest: int) -> int:
    """How many bits an image uses, one of DEPTHS, by its largest sample."""
    return next(one for one in DEPTHS if largest < 1 << one)


def seen(stored: npt.NDArray[Any]) -> Pixels:
    """The pixels that a model sees of a stored image; ``stored`` is overwritten.

    Samples of 16 bits are reduced to the upper 8 of the bits that the image uses: 8, 12 or 16, the least that its largest sample
    fits in. So images of 12-bit cameras, which are stored in 16 bits, do not turn black. The rule applies to each image, because
    a model sees one image at a time, and uses integers, so that training and serving see the same.
    """
    if stored.dtype != np.uint16:
        eight: Pixels = stored
        return eight
    bits = depth(stored) or max(DEPTHS)
    np.right_shift(stored, bits - 8, out=stored)
    found: Pixels = stored.astype(np.uint8)
    return found


def _stored(content: bytes, *, narrow: bool = False, reduction: int = 1) -> npt.NDArray[Any] | None:
    """The colours of a file at full depth, upright, or None. A JPEG without an end marker is given one.

    Without an end marker, OpenCV fails. With one, libjpeg returns the pixels that it has, and warns if some are missing.
    """
    flags = cv2.IMREAD_ANYCOLOR if narrow else cv2.IMREAD_COLOR
    if content.startswith(PNG):
        flags |= cv2.IMREAD_ANYDEPTH
    elif not narrow:
        flags = REDUCTIONS[reduction]
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if stored is None and content.startswith(JPEG) and scans.lack_end(content):
        stored = cv2.imdecode(np.frombuffer(content + scans.END, np.uint8), flags)
    return stored[..., None] if stored is not None and stored.ndim == 2 else stored


def _remarks(content: bytes, said: str) -> tuple[str, ...]:
    """Remarks about a decoded JPEG. Raises ImageRefusedError when a part of it is missing."""
    parsed = scans.parsed(content)
    content = parsed.content
    if scans.end_in_zeros(content):
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged: it ends in zeros, as after a power cut; send a complete JPEG"
        )
    if scans.have_other_line_ends(content):
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged: it was sent as text, with each line feed made two bytes;"
            " send it again, in binary mode"
        )
    if parsed.are_missing:
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged: scans are missing, so that it is blurred or lacks colours;"
            " send a complete JPEG"
        )
    stray = (STRAY_BYTES,) if _STRAY.search(said) else ()
    return (*stray, NO_END) if scans.lack_end(content) else stray


def _meaning(error: cv2.error) -> Exception:
    """The exception to raise for an error of OpenCV, whose text names lines of OpenCV and is not shown."""
    text = str(error)
    if error.code == _NO_MEMORY or _OUT_OF_MEMORY.search(text):
        return MemoryError()
    if "CV_IO_MAX_IMAGE" in text:
        ceilings = Ceilings.read()
        return TooManyPixelsError(
            f"the image has more than {ceilings.image_megapixels} megapixels ({raise_it('image_megapixels')})"
        )
    return ImageRefusedError(f"the image cannot be decoded: its content is damaged; send a complete {NAMES}")
