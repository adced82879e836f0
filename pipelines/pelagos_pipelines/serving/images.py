"""Decodes images, in a child of the sandbox that decoder.py or the preparation keeps.

Nobody here reads a header: OpenCV's decoders do, and refuse by the ceiling in the environment before they take memory. It may
know numpy, OpenCV and the sandbox only, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np

from pelagos_pipelines.sandbox import Answer, TaskRefusedError, child
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving import color, encodings, reducing, scans, tasks
from pelagos_pipelines.serving.decoding import JPEG, NAMES, PNG, ImageRefusedError, TooManyPixelsError, is_common
from pelagos_pipelines.serving.geometry import Pixels

tasks.load()  # before children are forked

NO_END = "no end marker"
STRAY_BYTES = "stray bytes"
TURNED, FLIPPED, ANIMATED = "turned", "flipped", "animated"
"""What `decode` remarks of an image that is usable; the preparation makes sentences of it."""
DEPTHS = (8, 12, 16)
"""Bits of a sample that images of 16 bits are taken to use."""
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
"""What libjpeg says when pixels are missing; it gives grey or repeated ones instead, and OpenCV is content."""
_STRAY = re.compile(r"extraneous bytes before marker 0xd9", re.I)
"""In front of the end: padding of a camera, or what is left when some byte before was changed. Nobody can tell."""
_NO_MEMORY = -4
"""OpenCV's code of an error."""


@dataclass(frozen=True)
class Decoded:
    """An image as its file holds it: ``stored`` [height, width, 3], blue first, upright, of 8 or 16 bits.

    `seen` makes pixels of it. ``remarks`` say what is odd about the file.
    """

    stored: Any
    remarks: tuple[str, ...] = ()
    opacity: Any = None
    """[height, width] of what is neither JPEG nor PNG, where the file says how opaque each pixel is."""


def nothing(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task that shows that there is a child."""
    return Answer()


def canvas(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The image on the canvas of a model, which ``task``, ``head``, ``size``, ``stride``, ``color`` and ``longest`` describe."""
    try:
        image = seen(decode(file.read()).stored)
    except ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None
    shown = color.corrected(reducing.reduced(image, arguments["longest"]), arguments["color"])
    placed = tasks.named(arguments["task"], arguments["head"]).fitted(shown, arguments["size"], arguments["stride"])
    return Answer({"width": image.shape[1], "height": image.shape[0]}, np.ascontiguousarray(placed.canvas).data)


def pixels(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """All pixels that a model sees of the image, blue first, for whoever cuts it into tiles or draws on it."""
    try:
        image = seen(decode(file.read()).stored)
    except ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None
    return Answer({"width": image.shape[1], "height": image.shape[0]}, np.ascontiguousarray(image).data)


def decode_known(content: bytes) -> Pixels:
    """In any process: the pixels of a JPEG or PNG that was decoded in a child before, and is known by its digest since.

    What is in another encoding stands in versions as PNG, which was made of pixels that a child has decoded.

    Raises:
        ImageRefusedError: it cannot be decoded.
        MemoryError: there is too little for its pixels.
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
    """In a child: an encoded image; ``narrow``: a grey one keeps its one channel.

    ``reduction``, of REDUCTIONS, makes the sides of a JPEG that is not narrow so many times shorter, in less time.

    Raises:
        ImageRefusedError: it is not whole, of more pixels than the ceiling, or of a kind that is not read.
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
    if stored is None and not said and child.took_share() > 0.25:  # libjpeg does not say what it was short of
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
    """What is neither JPEG nor PNG."""
    found = encodings.decode(content)
    if found is None:
        raise ImageRefusedError(f"the image is not {NAMES}; encode it as one of these")
    upright = _upright(found.colours, found.orientation)
    is_wide = narrow or upright.shape[2] == 3
    whole = upright if is_wide else np.broadcast_to(upright, (*upright.shape[:2], 3))
    opacity = None if found.opacity is None else np.ascontiguousarray(_upright(found.opacity, found.orientation))
    return Decoded(np.ascontiguousarray(whole), turns(found.orientation), opacity)


def turns(orientation: int) -> tuple[str, ...]:
    """What EXIF makes of an image: one that is turned by 90 degrees has other sides then, one that is flipped the same."""
    return (TURNED,) if orientation in range(5, 9) else (FLIPPED,) if orientation in range(2, 5) else ()


def _upright(stored: Any, orientation: int) -> Any:
    """The image as its EXIF orientation wants it seen."""
    turned = stored.swapaxes(0, 1) if orientation >= 5 else stored
    # The first row and column of the file are, in turn: above and left, above and right, below and right, below and left; then
    # left and above, right and above, right and below, left and below.
    down = orientation in {3, 4, 7, 8}
    left = orientation in {2, 3, 6, 7}
    return turned[:: -1 if down else 1, :: -1 if left else 1]


def depth(stored: Any) -> int | None:
    """How many bits an image of 16 bits a sample uses, of DEPTHS; None for one of 8."""
    return depth_of(int(stored.max())) if stored.dtype == np.uint16 else None


def depth_of(largest: int) -> int:
    """The same, by its largest sample."""
    return next(one for one in DEPTHS if largest < 1 << one)


def seen(stored: Any) -> Pixels:
    """What a model sees of the pixels that a file holds; ``stored`` is used up.

    Samples of 16 bits are cut to the upper 8 of those that the image uses: of 8, 12 or 16 bits, whichever is the least that
    its largest sample fits in. So do images of 12-bit cameras, which come in 16 bits, not turn black. By a rule for each image,
    because a model sees one image at a time; in integers, so that training and serving see the same.
    """
    if stored.dtype != np.uint16:
        eight: Pixels = stored
        return eight
    bits = depth(stored) or max(DEPTHS)
    np.right_shift(stored, bits - 8, out=stored)
    found: Pixels = stored.astype(np.uint8)
    return found


def _stored(content: bytes, *, narrow: bool = False, reduction: int = 1) -> Any:
    """The colours of a file at their full depth, upright, or None; a JPEG that has no end is given one.

    OpenCV waits for more of a file without an end. With one, libjpeg gives what there is, and complains when that is not all.
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
    """What is to be said of a JPEG that was decoded. Raises ImageRefusedError when a part of it never came."""
    content = scans.without_tail(content)
    if scans.end_in_zeros(content):
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged: it ends in zeros, as after a power cut; send a complete JPEG"
        )
    if scans.have_other_line_ends(content):
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged: it was sent as text, with each line feed made two bytes;"
            " send it again, in binary mode"
        )
    if scans.are_missing(content):
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged: scans are missing, so that it is blurred or lacks colours;"
            " send a complete JPEG"
        )
    stray = (STRAY_BYTES,) if _STRAY.search(said) else ()
    return (*stray, NO_END) if scans.lack_end(content) else stray


def _meaning(error: cv2.error) -> Exception:
    """What an error of OpenCV means; its text names lines of OpenCV."""
    text = str(error)
    if error.code == _NO_MEMORY or _OUT_OF_MEMORY.search(text):
        return MemoryError()
    if "CV_IO_MAX_IMAGE" in text:
        ceilings = Ceilings.read()
        return TooManyPixelsError(
            f"the image has more than {ceilings.image_megapixels} megapixels ({raise_it('image_megapixels')})"
        )
    return ImageRefusedError(f"the image cannot be decoded: its content is damaged; send a complete {NAMES}")
