"""The safetensors format: a length, a JSON header of names, types, shapes and offsets, and the numbers. None of it can execute.

Users provide such files, and extraction.py returns the tensors of other checkpoints in the same form. The reader trusts no number
in the header: every tensor must lie within the file and have as many bytes as its shape says, and no two may share a byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes per number, by type."""
MAX_HEADER = 4 * 1024 * 1024
MAX_TENSORS = 20_000
_MOST_NUMBERS = 2**48
"""Per tensor, counting an empty side as 1: frameworks multiply the sides of empty tensors, too."""
_LENGTH = 8


class FormatError(Exception):
    """The file is not in the format. The message says why, without quoting the file."""


@dataclass(frozen=True)
class Tensor:
    """One tensor, its numbers in row-major order."""

    kind: str
    shape: tuple[int, ...]
    content: memoryview


def read(content: memoryview) -> dict[str, Tensor]:
    """The tensors in a file's content, by name, as views of it. Raises FormatError."""
    length = int.from_bytes(content[:_LENGTH], "little") if len(content) > _LENGTH else 0
    if not 2 <= length <= min(MAX_HEADER, len(content) - _LENGTH):
        raise FormatError("its header is longer than the file, or than 4 MiB")
    try:
        header = json.loads(bytes(content[_LENGTH : _LENGTH + length]))
    except (ValueError, RecursionError):
        raise FormatError("its header is no JSON") from None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise FormatError(f"its header is no JSON object of at most {MAX_TENSORS} tensors")
    header.pop("__metadata__", None)
    numbers = content[_LENGTH + length :]
    found = {name: _tensor(described, numbers) for name, described in header.items()}
    if sum(len(tensor.content) for tensor in found.values()) > len(numbers):
        raise FormatError("its tensors overlap")
    return found


def write(tensors: Sequence[tuple[str, str, Sequence[int], memoryview]]) -> bytearray:
    """The content of a file with these tensors, each given as name, type, shape and numbers."""
    header, position = {}, 0
    for name, kind, shape, numbers in tensors:
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [position, position + len(numbers)]}
        position += len(numbers)
    text = json.dumps(header).encode()
    content = bytearray(len(text).to_bytes(_LENGTH, "little") + text)
    for _, _, _, numbers in tensors:
        content += numbers
    return content


def _tensor(described: object, numbers: memoryview) -> Tensor:
    if not isinstance(described, Mapping):
        raise FormatError("a tensor has no description")
    kind, shape, place = described.get("dtype"), described.get("shape"), described.get("data_offsets")
    if kind not in ITEM_BYTES:
        raise FormatError(f"a tensor has a type other than {', '.join(ITEM_BYTES)}")
    sides, ends = _counts(shape), _counts(place)
    if sides is None or ends is None or len(sides) > 16 or len(ends) != 2:
        raise FormatError("a tensor has no shape or no place")
    if math.prod(max(side, 1) for side in sides) > _MOST_NUMBERS:
        raise FormatError("a tensor has a shape that no file can fill")
    begin, end = ends
    if not begin <= end <= len(numbers) or end - begin != math.prod(sides) * ITEM_BYTES[kind]:
        raise FormatError("a tensor is longer than the file, or than its shape says")
    return Tensor(kind, tuple(sides), numbers[begin:end])


def _counts(value: object) -> list[int] | None:
    """``value`` if it is a list of integers in [0, 2**48), else None."""
    fits = isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)
    return value if isinstance(value, list) and fits else None
