"""When and where an image was taken, and by what: values as versions hold them, and how they are read from text.

Pure; it knows no file. What cannot be a value raises ValueFaultError: it counts as unknown, for a reason that people are told.
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
"""Characters of a site, a deployment or a platform."""
LONGEST_VALUE = 64
"""Characters of a time and of a number."""
EARLIEST, LATEST = 1880, 2199
"""Years: cameras whose clock was never set say 1970 or 2000, which nobody can tell from a real one, or none at all."""
DEEPEST = 11_500.0
"""Meters: below the deepest trench nothing was ever photographed."""
DEPTHS = (10, 30, 60, 100, 200, 500, 1000, 2000, 4000, 6000)
"""Meters between the bands of depth: 30 for divers, 200 where light and shelf end, 1000, 4000 and 6000 as of the bathyal, abyssal
and hadal zones."""
UTC_SIGN = "Z"
_DAY = timedelta(days=1)
_TIME = re.compile(
    r"(\d{4})(-?)(\d\d)\2(\d\d)(?:[T _](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9}))?)?)?\s?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?(\d{1,9}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,3})?", re.ASCII)
_NOTHING = frozenset({"", "-", "na", "n/a", "nan", "none", "null"})
"""What tables have where there is no time or no number."""


class ValueFaultError(ValueError):
    """Text, or a number, that cannot be the value of a field."""

    def __init__(self, fault: CaptureFault) -> None:
        """``fault`` is why."""
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Capture:
    """What is known of one image; None for what is not.

    ``time`` is ISO 8601, local with its offset from UTC (``2024-05-31T08:00:00+02:00``, ``...Z``), or a date where the clock is
    not known. ``depth`` in meters below the surface, ``latitude`` and ``longitude`` in decimal degrees (WGS 84).
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
        """The local hour, 00 to 23; None where there is a date alone."""
        return self.time[11:13] if self.has_clock and self.time else None

    @property
    def depth_band(self) -> str | None:
        """Between the depths at which light, divers, shelves and slopes end."""
        if self.depth is None:
            return None
        depth = self.depth
        upper = next((bound for bound in DEPTHS if depth < bound), None)
        lower = max((bound for bound in (0, *DEPTHS) if bound <= depth), default=0)
        return f"{lower} m and deeper" if upper is None else f"{lower} to {upper} m"

    @property
    def position_band(self) -> str | None:
        """The field of one degree of latitude and longitude, by its southwestern corner."""
        if self.latitude is None or self.longitude is None:
            return None
        # The pole, and the other side of the date line, belong to the last field before them.
        south, west = min(math.floor(self.latitude), 89), min(math.floor(self.longitude), 179)
        return f"{abs(south)}° {'S' if south < 0 else 'N'}, {abs(west)}° {'W' if west < 0 else 'E'}"

    @property
    def has_clock(self) -> bool:
        """Whether more is known than a date."""
        return self.time is not None and "T" in self.time

    @property
    def moments(self) -> tuple[datetime, datetime] | None:
        """Between which two moments it was taken, in UTC: the same one twice, or both ends of a day."""
        if self.time is None:
            return None
        if self.has_clock:
            moment = datetime.fromisoformat(self.time).astimezone(UTC)
            return moment, moment
        begin = datetime.fromisoformat(self.time).replace(tzinfo=UTC)
        return begin, begin + _DAY

    def document(self) -> dict[str, str | float]:
        """What is known, by the names of fields."""
        found = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def restored(cls, found: Mapping[str, Any]) -> Self:
        """From a ``document`` that anybody may have written.

        Raises:
            ValueError, TypeError: it is none.
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
    """A site, a deployment or a platform in NFC; None where there is nothing.

    Raises:
        ValueFaultError: it is no text of one line with at most LONGEST_TEXT characters.
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
    """A time as ``Capture`` has it, and whether it was taken for UTC because nothing says its offset; None for nothing.

    ``utc_offset`` is that of times without one.

    Raises:
        ValueFaultError: it is no date, nor a date and a time, or of no year in which images were taken.
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
    """``depth``, ``latitude`` or ``longitude``, or ``altitude``, of which depth is made; None for nothing.

    Raises:
        ValueFaultError: it is no decimal number, or no place on Earth.
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
    """The depth of what lies below the sea; above it there is none."""
    return -altitude or 0.0 if altitude <= 0 else None


_BOUNDS = {
    "depth": (0.0, DEEPEST, 3),
    "altitude": (-DEEPEST, 1_000_000.0, 3),
    "latitude": (-90.0, 90.0, 7),
    "longitude": (-180.0, 180.0, 7),
}
"""The least and the most, and to how many digits: a millimeter, a centimeter."""


def _bounded(name: str, number: float) -> float:
    least, most, digits = _BOUNDS[name]
    if not math.isfinite(number):
        raise ValueFaultError(CaptureFault.NOT_READABLE)
    if not least <= number <= most:
        raise ValueFaultError(CaptureFault.OUT_OF_RANGE)
    return round(number, digits) + 0.0
