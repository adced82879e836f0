"""When, where and by what an image was taken: the values in versions, and how they are parsed from text.

Pure functions without files. An invalid value raises ValueFaultError; it counts as unknown, with a reason that is reported.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pelagos_contract.capture import OFFSET, CaptureFault
from pelagos_pipelines.annotations.untrusted_input import is_encodable, is_seen

TEXTS = ("site", "deployment", "platform")
LONGEST_TEXT = 200
"""Most characters of a site, deployment or platform."""
LONGEST_VALUE = 64
"""Most characters of a time or number."""
EARLIEST, LATEST = 1880, 2199
"""Accepted years. Cameras whose clock was never set report 1970 or 2000, which cannot be distinguished from real years."""
DEEPEST = 11_500.0
"""Largest depth in meters, below the deepest trench."""
DEPTHS = (10, 30, 60, 100, 200, 500, 1000, 2000, 4000, 6000)
"""Bounds of depth bands in meters: 30 for divers, 200 where light and shelf end, and 1000, 4000 and 6000 for the bathyal, abyssal
and hadal zones."""
UTC_SIGN = "Z"
_DAY = timedelta(days=1)
_TIME = re.compile(
    r"(\d{4})(-?)(\d\d)\2(\d\d)(?:[T _](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9}))?)?)?\s?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?(\d{1,9}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,3})?", re.ASCII)
_NOTHING = frozenset({"", "-", "na", "n/a", "nan", "none", "null"})
"""Placeholders in tables for a missing time or number."""


class ValueFaultError(ValueError):
    """A text or number is not a valid value of a field."""

    def __init__(self, fault: CaptureFault) -> None:
        """``fault`` is the reason."""
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Capture:
    """The capture fields of one image; unknown ones are None.

    ``time`` is ISO 8601, local with its offset from UTC (``2024-05-31T08:00:00+02:00``, ``...Z``), or a date where the time of
    day is unknown. ``depth`` is in meters below the surface, ``latitude`` and ``longitude`` are in decimal degrees (WGS 84).
    """

    site: str | None = None
    deployment: str | None = None
    platform: str | None = None
    time: str | None = None
    depth: float | None = None
    latitude: float | None = None
    longitude: float | None = None

    @property
    def day(self) -> str | None:
        """The local date."""
        return self.time and self.time[:10]

    @property
    def month(self) -> str | None:
        """The local month of the year, 01 to 12."""
        return self.time and self.time[5:7]

    @property
    def hour(self) -> str | None:
        """The local hour, 00 to 23; None when only the date is known."""
        return self.time[11:13] if self.has_clock and self.time else None

    @property
    def depth_band(self) -> str | None:
        """The band of ``DEPTHS`` that contains the depth, in words; None without a depth."""
        if self.depth is None:
            return None
        depth = self.depth
        upper = next((bound for bound in DEPTHS if depth < bound), None)
        lower = max((bound for bound in (0, *DEPTHS) if bound <= depth), default=0)
        return f"{lower} m and deeper" if upper is None else f"{lower} to {upper} m"

    @property
    def position_band(self) -> str | None:
        """The cell of one degree of latitude and longitude, named by its southwestern corner; None without a position."""
        if self.latitude is None or self.longitude is None:
            return None
        # The north pole and 180 degrees east belong to the last cell before them.
        south, west = min(math.floor(self.latitude), 89), min(math.floor(self.longitude), 179)
        return f"{abs(south)}° {'S' if south < 0 else 'N'}, {abs(west)}° {'W' if west < 0 else 'E'}"

    @property
    def has_clock(self) -> bool:
        """Whether the time of day is known."""
        return self.time is not None and "T" in self.time

    @property
    def moments(self) -> tuple[datetime, datetime] | None:
        """The interval in UTC in which it was taken: the same moment twice, or both ends of a day; None without a time."""
        if self.time is None:
            return None
        if self.has_clock:
            moment = datetime.fromisoformat(self.time).astimezone(UTC)
            return moment, moment
        begin = datetime.fromisoformat(self.time).replace(tzinfo=UTC)
        return begin, begin + _DAY

    def document(self) -> dict[str, str | float]:
        """The known values by field names."""
        found = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def restored(cls, found: Mapping[str, Any]) -> Self:
        """Parse an untrusted ``document``.

        Raises:
            ValueError, TypeError: it is invalid.
        """
        for name, value in found.items():
            read: str | float | None
            if name in {*TEXTS, "time"}:
                read = text_of(value) if name in TEXTS else time_of(value)[0]
            elif isinstance(value, int | float) and not isinstance(value, bool):
                read = _bounded(name, float(value))
            else:
                raise TypeError(name)
            if read != value:
                raise ValueError(name)
        return cls(**found)


FIELDS: tuple[str, ...] = tuple(each.name for each in fields(Capture))


def text_of(value: object) -> str | None:
    """A site, deployment or platform in NFC; None for an empty value.

    Raises:
        ValueFaultError: it is not text on one line with at most LONGEST_TEXT characters.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not is_encodable(value):
        raise ValueFaultError(CaptureFault.NOT_READABLE)
    text = unicodedata.normalize("NFC", value.strip())
    if len(text) > LONGEST_TEXT or not text.isprintable() or not is_seen(text):
        raise ValueFaultError(CaptureFault.NOT_READABLE)
    return text


def time_of(value: object, utc_offset: str | None = None) -> tuple[str | None, bool]:
    """A time in the form of ``Capture``, and whether UTC was assumed for lack of an offset; None for an empty value.

    ``utc_offset`` applies to times without an offset.
    Raises:
        ValueFaultError: it is neither a date nor a date and time, or its year is out of range.
    """
    if value is None:
        return None, False
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, str) and text.lower() in _NOTHING:
        return None, False
    found = _TIME.fullmatch(text) if len(text) <= LONGEST_VALUE else None
    if found is None:
        raise ValueFaultError(CaptureFault.NOT_READABLE)
    year, _, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        micro = int((fraction or "0").ljust(6, "0")[:6])
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micro)  # noqa: DTZ001
    except ValueError as error:
        raise ValueFaultError(CaptureFault.OUT_OF_RANGE) from error
    if not EARLIEST <= moment.year <= LATEST:
        raise ValueFaultError(CaptureFault.OUT_OF_RANGE)
    if hour is None:
        return moment.date().isoformat(), False
    return f"{moment.isoformat()}{_offset(offset or utc_offset)}", (offset or utc_offset) is None


def _offset(text: str | None) -> str:
    if text is None or text == UTC_SIGN:
        return UTC_SIGN
    digits = text[1:].replace(":", "").ljust(4, "0")
    plain = f"{text[0]}{digits[:2]}:{digits[2:]}"
    if not re.fullmatch(OFFSET, plain):
        raise ValueFaultError(CaptureFault.OUT_OF_RANGE)
    return UTC_SIGN if digits == "0000" else plain


def number_of(name: str, value: object) -> float | None:
    """Parse ``depth``, ``latitude``, ``longitude``, or ``altitude``, from which depth is derived; None for an empty value.

    Raises:
        ValueFaultError: it is not a decimal number, or out of range.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        text = value.strip() if isinstance(value, str) else "x"
        if text.lower() in _NOTHING:
            return None
        if len(text) > LONGEST_VALUE or not _NUMBER.fullmatch(text):
            raise ValueFaultError(CaptureFault.NOT_READABLE)
        number = float(text)
    return _bounded(name, number)


def depth_of(altitude: float) -> float | None:
    """The depth for an altitude; None above sea level."""
    return -altitude or 0.0 if altitude <= 0 else None


_BOUNDS = {
    "depth": (0.0, DEEPEST, 3),
    "altitude": (-DEEPEST, 1_000_000.0, 3),
    "latitude": (-90.0, 90.0, 7),
    "longitude": (-180.0, 180.0, 7),
}
"""Smallest and largest value, and number of decimals: a millimeter for depths, a centimeter for positions."""


def _bounded(name: str, number: float) -> float:
    least, most, digits = _BOUNDS[name]
    if not math.isfinite(number):
        raise ValueFaultError(CaptureFault.NOT_READABLE)
    if not least <= number <= most:
        raise ValueFaultError(CaptureFault.OUT_OF_RANGE)
    return round(number, digits) + 0.0
