"""Names of metrics: ``<split>/<metric>``, and for one class ``<split>/<metric>/<class>``, in characters that trackers accept.

The metrics of a task are in its description (tasks.TASKS). A class name stays as it is if it only has letters, digits, spaces and
``_ - .``, no space or dot at an end, and up to 100 characters. Any other character is escaped as its UTF-8 bytes, each a colon
and two hexadecimal digits: ``a/b%c`` becomes ``a:2Fb:25c``. Distinct classes thus have distinct names, so a gate never judges the
wrong one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

TEST = "test/"
"""Prefix of the metrics of the test split, which gates judge."""
UNKNOWN = ":unknown"
"""Stands for the unknown value of a field in a name."""
ERRORS = frozenset({"loss", "ECE", "ECE-uncalibrated"})
"""Metrics for which lower is better."""
SETTINGS = frozenset({"confidence"})
"""Settings under which other metrics hold, which are neither good nor bad."""
DIFFERENCE = "export/difference"
"""The largest difference in scores, in [0, 1], between the exported model and that in the training framework, over the images on
which the step export compares them."""
EXPORTED = (DIFFERENCE,)
LONGEST = 100
"""Most characters of a class or value in a name; MLflow allows 250 for the whole name."""
_DIGITS = 20
_ESCAPED = re.compile(r"(?::[0-9A-F]{2})+")
_STRANGE = re.compile(r"[^\w.\- ]|^[ .]|[ .]\Z")


class Kind(StrEnum):
    """What a metric is measured on: the first part of its name."""

    TEST = "test"
    SLICE = "slice"
    WORST = "worst"
    LEFT_OUT = "leave-one-out"


@dataclass(frozen=True)
class Name:
    """The parts of a name. ``label`` and ``value`` are escaped as in the name; ``field`` is set for all but the whole split.

    For ``LEFT_OUT``, ``value`` names the model that was trained without it, and None is the mean of all.
    """

    kind: Kind
    metric: str
    label: str | None = None
    field: str | None = None
    value: str | None = None


def of_test(metric: str, label: str | None = None) -> str:
    """The name of a metric on the test split, of all classes or of the class ``label``."""
    return f"{TEST}{metric}" if label is None else f"{TEST}{metric}/{class_name(label)}"


def of_slice(field: str, value: str | None, metric: str) -> str:
    """The name of a metric on the images with one value of a field; None: on those whose value is unknown."""
    return f"{Kind.SLICE}/{field}/{value_name(value)}/{metric}"


def of_worst(field: str, metric: str) -> str:
    """The name of a metric's worst value among the slices of a field."""
    return f"{Kind.WORST}/{field}/{metric}"


def of_left_out(field: str, metric: str, value: str | None = None) -> str:
    """The name of a metric of the model trained without ``value``, on the images with it; None: of the mean of these models."""
    return (
        f"{Kind.LEFT_OUT}/{field}/{metric}"
        if value is None
        else f"{Kind.LEFT_OUT}/{field}/{value_name(value)}/{metric}"
    )


def value_name(value: str | None) -> str:
    """A field's value in names of metrics; distinct values have distinct names."""
    return UNKNOWN if value is None else class_name(value)


def parsed(name: str) -> Name | None:
    """The parts of a name that a function of this module made; None for any other."""
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
    """Unescape a class or value for people; None for ``:unknown``. A name that was too long stays shortened."""
    if written == UNKNOWN:
        return None
    if written == ":":
        return ""

    def text(found: re.Match[str]) -> str:
        return bytes.fromhex(found[0].replace(":", "")).decode(errors="replace")

    return _ESCAPED.sub(text, written)


def worst(metric: str, values: list[float]) -> float:
    """The worst of at least one value, by whether lower or higher is better for the metric."""
    return max(values) if metric in ERRORS else min(values)


def whole(name: str, label: str | None = None) -> str:
    """The full name of a metric that a person may have abbreviated: one without a slash is of the test split."""
    short = name.removeprefix(TEST)
    return of_test(short, label) if label is not None or "/" not in short else name


def class_name(label: str) -> str:
    """The escaped class in names of its metrics, distinct for every class. A name that is too long ends with the start of its
    SHA-256."""
    # A literal colon is always escaped as :3A, so only special names have a colon that two hexadecimal digits do not follow.
    name = _STRANGE.sub(lambda found: _bytes(found[0]), label) or ":"
    if len(name) <= LONGEST:
        return name
    ending = f":sha256-{hashlib.sha256(label.encode(errors='surrogatepass')).hexdigest()[:_DIGITS]}"
    return name[: LONGEST - len(ending)] + ending


def _bytes(character: str) -> str:
    return "".join(f":{byte:02X}" for byte in character.encode(errors="surrogatepass"))
