"""Names of metrics: ``<split>/<metric>``, and of one class ``<split>/<metric>/<class>``, in characters that trackers accept.

Which there are of a task, its description says (tasks.TASKS). A class is named as it is, as long as its name has letters, digits,
spaces and ``_ - .`` alone, no space or dot at an end, and up to 100 characters. Any other character is written as its UTF-8
bytes, each a colon and two hexadecimal digits: ``a/b%c`` is ``a:2Fb:25c``. So a name says which class it is of, whatever other
classes there are: a gate never judges another one.
"""

from __future__ import annotations

import hashlib
import re

TEST = "test/"
"""What names of figures of the test split begin with: those that gates judge."""
LONGEST = 100
"""Characters; MLflow takes 250 for the whole name of a metric."""
_DIGITS = 20
_STRANGE = re.compile(r"[^\w.\- ]|^[ .]|[ .]\Z")


def of_test(metric: str, label: str | None = None) -> str:
    """The name of a metric of the test split, as a whole or of the class ``label``."""
    return f"{TEST}{metric}" if label is None else f"{TEST}{metric}/{class_name(label)}"


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
