"""Writes thousands of boxes as YOLO rows at once: byte-identical to ``"%d %.8f %.8f %.8f %.8f\\n"``, in a sixth of the time.

Called by yolo.py, and by trainings, which use the rounded numbers without writing rows. A number is scaled to an integer of
hundred-millionths, whose digits are looked up four at a time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_DIGITS = 8
_SCALE = 10.0**_DIGITS
_SPLITTING = 2.0**27 + 1
"""Splits a float64 into two halves whose products with a number of at most 27 bits, such as the scale, are exact (Dekker
1971)."""
_MOST = 9.9
"""Upper bound of numbers with one digit before the decimal point."""
_CLASS = 8
"""Most characters of a class."""
_CELL = 11
"""Characters of a number: a space, a digit, the point, and eight digits."""


def rows(classes: npt.NDArray[np.int32], numbers: npt.NDArray[np.float64]) -> tuple[bytes, list[int]]:
    """The rows of boxes, and the end of each. ``classes`` are indices, int [n]; ``numbers`` fractions, float64 [n, 4]."""
    import numpy as np

    if not len(classes):
        return b"", []
    if not _are_usual(numbers) or int(classes.min()) < 0:
        each = [
            b"%d %.8f %.8f %.8f %.8f\n" % (label, *box) for label, box in zip(classes, numbers.tolist(), strict=True)
        ]
        return b"".join(each), np.cumsum([len(one) for one in each]).tolist()
    table = np.array([b"%d" % label for label in range(int(classes.max()) + 1)], f"S{_CLASS}")
    # Four characters are packed into one uint32. Zero bytes are removed at the end.
    lines: Any = np.zeros((len(classes), _CLASS // 4 + 4 * 3 + 1), np.uint32)
    lines[:, : _CLASS // 4] = table[classes].view(np.uint32).reshape(len(classes), -1)
    for place, column in enumerate(_rounded(numbers).T):
        upper, ones = column // 10_000, column // 100_000_000
        cell = lines[:, _CLASS // 4 + 3 * place :]
        cell[:, 0] = _fours("\0 {}.", 10)[ones]
        cell[:, 1] = _fours("{:04}", 10_000)[upper - ones * 10_000]
        cell[:, 2] = _fours("{:04}", 10_000)[column - upper * 10_000]
    lines[:, -1] = _fours("\0\0\0\n", 1)
    lengths = np.strings.str_len(table)[classes] + (4 * _CELL + 1)
    return lines.tobytes().translate(None, b"\0"), np.cumsum(lengths).tolist()


def written(numbers: Any) -> Any:
    """The numbers, float64 [n, 4], that a reader of ``rows`` gets."""
    import numpy as np

    if not len(numbers) or _are_usual(numbers):
        return _rounded(numbers) / _SCALE
    return np.array([[float(f"{number:.8f}") for number in box] for box in numbers.tolist()])


def _are_usual(numbers: npt.NDArray[np.float64]) -> bool:
    """Whether all numbers are in the range of the fast path; boxes of an image without a size are not."""
    return float(numbers.min()) >= 0 and float(numbers.max()) <= _MOST


def _rounded(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
    """The numbers as integers of the last digit, rounded like printf by the exact value of the float."""
    import numpy as np

    products = numbers * _SCALE
    found = np.rint(products)
    between = np.flatnonzero(abs(products - found) == 0.5)
    if len(between):
        exact, product = numbers.ravel()[between], products.ravel()[between]
        upper = exact * _SPLITTING
        upper -= upper - exact
        # The rounding error of the product decides on which side of the half the exact value is.
        lost = (upper * _SCALE - product) + (exact - upper) * _SCALE
        rounded = np.where(lost == 0, np.rint(product), np.floor(product) + (lost > 0))
        found.ravel()[between] = rounded
    return found.astype(np.uint32)  # faster to divide than 64-bit integers


@cache
def _fours(text: str, many: int) -> npt.NDArray[np.uint32]:
    """A table of texts of four characters for each number from 0, each packed into an integer."""
    import numpy as np

    return np.frombuffer("".join(map(text.format, range(many))).encode("ascii"), np.uint32)
