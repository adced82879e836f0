"""Reads when and where an image was taken from its EXIF. Runs in a sandboxed child, for applying.

Source: CIPA DC-008 (Exif 2.32), tags of the Exif and of the GPS attribute information. Only headers are read; pixels are not
decoded.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from pelagos_contract.capture import CaptureFault
from pelagos_pipelines.annotations import capture
from pelagos_pipelines.annotations.capture import ValueFaultError
from pelagos_pipelines.sandbox import Answer

_READERS = (JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
"""Imported here once, before children are forked: otherwise Pillow would load all of its plugins in each."""
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII)
_UNSET = re.compile(r"[\s:0.+-]*")
"""Values that cameras write if their clock was never set, and that the standard prescribes for an unknown time."""
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST = 1 << 20
"""The most bytes of EXIF after the pixels of a PNG."""
_BELOW_SEA, _ABOVE_SEA = 1, 0


def read(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The task: ``values`` of fields, ``faults`` of others, and whether the time was ``assumed`` to be UTC; or ``damaged``."""
    try:
        with warnings.catch_warnings():
            # Pillow only warns about damaged EXIF, and returns the part that it could read.
            warnings.simplefilter("error")
            exif = _exif(file)
            if exif is None:
                return Answer({"values": {}})
            photo, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    except MemoryError:
        raise
    except Exception:  # Pillow fails in many ways, and its messages may quote the file
        return Answer({"damaged": True})
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    assumed = [False]

    def take(name: str, read_it: Callable[[], Any]) -> None:
        try:
            if (value := read_it()) is not None:
                values[name] = value
        except ValueFaultError as error:
            faults[name] = error.fault.value
        except (ValueError, TypeError, ArithmeticError, LookupError):
            faults[name] = CaptureFault.NOT_READABLE.value

    def time() -> str | None:
        found, assumed[0] = _time(photo, arguments["utcOffset"])
        return found

    take("time", time)
    take("latitude", lambda: _degrees(place, "latitude", ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "NS"))
    take(
        "longitude", lambda: _degrees(place, "longitude", ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "EW")
    )
    take("depth", lambda: _depth(place))
    return Answer({"values": values, "faults": faults, "assumed": assumed[0] and "time" in values})


def _exif(file: BinaryIO) -> Image.Exif | None:
    Image.MAX_IMAGE_PIXELS = None  # no pixel is decoded
    with Image.open(file, formats=_FORMATS) as image:
        if image.format == "TIFF":
            return image.getexif()
        # getexif is not used: it treats damaged EXIF as none, and decodes the pixels of a PNG to look after them.
        content = image.info.get("exif")
        if image.format == "PNG" and not content:
            content = _behind_pixels(file)
    if not content:
        return None
    exif = Image.Exif()
    exif.load(content)
    return exif


def _behind_pixels(file: BinaryIO) -> bytes | None:
    """The EXIF at the end of a PNG, where some programs put it."""
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return file.read(length) if length <= _MOST else None
        file.seek(length + 4, 1)
    return None


def _text(value: object) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text.strip("\0 ") if isinstance(text, str) else ""


def _time(photo: Mapping[int, Any], utc_offset: str | None) -> tuple[str | None, bool]:
    if (told := photo.get(ExifTags.Base.DateTimeOriginal)) is None or _UNSET.fullmatch(text := _text(told)):
        return None, False
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueFaultError(CaptureFault.NOT_READABLE)
    year, month, day, *clock = found.groups()
    fraction = _text(photo.get(ExifTags.Base.SubsecTimeOriginal))
    fraction = f".{fraction[:9]}" if fraction.isascii() and fraction.isdecimal() else ""
    offset = _text(photo.get(ExifTags.Base.OffsetTimeOriginal))
    offset = "" if offset.strip(" :") == "" else offset
    return capture.time_of(f"{year}-{month}-{day}T{':'.join(clock)}{fraction}{offset}", utc_offset)


def _degrees(place: Mapping[int, Any], name: str, value: int, reference: int, signs: str) -> float | None:
    told = place.get(value)
    if told is None:
        return None
    sign = _text(place.get(reference)).upper()
    degrees, minutes, seconds = map(float, told)
    if len(sign) != 1 or sign not in signs or min(degrees, minutes, seconds) < 0 or minutes > 60 or seconds > 60:
        raise ValueFaultError(CaptureFault.NOT_READABLE)
    found = degrees + minutes / 60 + seconds / 3600
    return capture.number_of(name, -found if sign in "SW" else found)


def _depth(place: Mapping[int, Any]) -> float | None:
    told, reference = place.get(ExifTags.GPS.GPSAltitude), place.get(ExifTags.GPS.GPSAltitudeRef, _ABOVE_SEA)
    if told is None:
        return None
    if isinstance(reference, bytes):
        reference = reference[0]
    return capture.number_of("depth", float(told)) if reference == _BELOW_SEA else None
