"""Names of metrics: ``<split>/<metric>``, and of one class ``<split>/<metric>/<class>``, in characters that trackers accept.

Which there are of a task, its description says (tasks.TASKS). A class is named as it is, as long as its name has letters, digits,
spaces and ``_ - .`` alone, no space or dot at an end, and up to 100 characters. Any other character is written as its UTF-8
bytes, each a colon and two hexadecimal digits: ``a/b%c`` is ``a:2Fb:25c``. So a name says which class it is of, whatever other
classes there are: a gate never judges another one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

TEST = "test/"
"""What names of figures of the test split begin with: those that gates judge."""
UNKNOWN = ":unknown"
"""Written for the value of a field that is not known."""
ERRORS = frozenset({"loss", "ECE", "ECE-uncalibrated"})
"""Metrics that are better when they are lower."""
SETTINGS = frozenset({"confidence"})
"""What others hold at, and neither good nor bad."""
DIFFERENCE = "export/difference"
"""The largest difference of scores, in [0, 1], between the exported model and the training framework's, over the images that the
step export compares them on."""
EXPORTED = (DIFFERENCE,)
LONGEST = 100
"""Characters; MLflow takes 250 for the whole name of a metric."""
_DIGITS = 20
_ESCAPED = re.compile(r"(?::[0-9A-F]{2})+")
_STRANGE = re.compile(r"[^\w.\- ]|^[ .]|[ .]\Z")


class Kind(StrEnum):
    """What a metric is of: the first part of its name."""

    TEST = "test"
    SLICE = "slice"
    WORST = "worst"
    LEFT_OUT = "leave-one-out"


@dataclass(frozen=True)
class Name:
    """The parts of a name. ``label`` and ``value`` are as they are written in it; ``field`` is there of all but the whole split.

    Of ``LEFT_OUT``, a ``value`` is that of one model, and None is the mean.
    """

    kind: Kind
    metric: str
    label: str | None = None
    field: str | None = None
    value: str | None = None


def of_test(metric: str, label: str | None = None) -> str:
    """The name of a metric of the test split, as a whole or of the class ``label``."""
    return f"{TEST}{metric}" if label is None else f"{TEST}{metric}/{class_name(label)}"


def of_slice(field: str, value: str | None, metric: str) -> str:
    """The name of a metric of the images with one value of a field; None: of those of which it is not known."""
    return f"{Kind.SLICE}/{field}/{value_name(value)}/{metric}"


def of_worst(field: str, metric: str) -> str:
    """The name of the worst one among the slices of a field."""
    return f"{Kind.WORST}/{field}/{metric}"


def of_left_out(field: str, metric: str, value: str | None = None) -> str:
    """The name of a metric of the model that was trained without a value, on that value; without one, of their mean."""
    return (
        f"{Kind.LEFT_OUT}/{field}/{metric}"
        if value is None
        else f"{Kind.LEFT_OUT}/{field}/{value_name(value)}/{metric}"
    )


def value_name(value: str | None) -> str:
    """A value of a field in names of metrics; no other has the same."""
    return UNKNOWN if value is None else class_name(value)


def parsed(name: str) -> Name | None:
    """The parts of a name that one of the functions here made; None for others."""
    first, *rest = name.split("/")
    if not rest or not all(rest):
        return None
    match first, rest:
        case Kind.TEST, [metric]:
            return Name(Kind.TEST, metric)
        case Kind.TEST, [metric, label]:
            return Name(Kind.TEST, metric, label=label)
        case Kind.SLICE, [field, value, metric]:
            return Name(Kind.SLICE, metric, field=field, value=value)
        case Kind.WORST, [field, metric]:
            return Name(Kind.WORST, metric, field=field)
        case Kind.LEFT_OUT, [field, metric]:
            return Name(Kind.LEFT_OUT, metric, field=field)
        case Kind.LEFT_OUT, [field, value, metric]:
            return Name(Kind.LEFT_OUT, metric, field=field, value=value)
    return None


def plain(written: str) -> str | None:
    """The class or value that is written so, for people; None for ``:unknown``. Of one that was too long, what is left of it."""
    if written == UNKNOWN:
        return None
    if written == ":":
        return ""

    def text(found: re.Match[str]) -> str:
        return bytes.fromhex(found[0].replace(":", "")).decode(errors="replace")

    return _ESCAPED.sub(text, written)


def worst(metric: str, values: list[float]) -> float:
    """The worst of values, of which there is one at least."""
    return max(values) if metric in ERRORS else min(values)


def whole(name: str, label: str | None = None) -> str:
    """The whole name of a metric that a person may have named shortly: one without a slash is of the test split."""
    short = name.removeprefix(TEST)
    return of_test(short, label) if label is not None or "/" not in short else name


def class_name(label: str) -> str:
    """The class in names of its metrics; no other class has the same. Too long a name ends with the start of its SHA-256."""
    # A colon, which is always written as :3A, is followed by anything but two digits in names of no other kind.
    name = _STRANGE.sub(lambda found: _bytes(found[0]), label) or ":"
    if len(name) <= LONGEST:
        return name
    ending = f":sha256-{hashlib.sha256(label.encode(errors='surrogatepass')).hexdigest()[:_DIGITS]}"
    return name[: LONGEST - len(ending)] + ending


def _bytes(character: str) -> str:
    return "".join(f":{byte:02X}" for byte in character.encode(errors="surrogatepass"))
