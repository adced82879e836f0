"""Holds many shapes in a fifth of the memory that objects would take, and transfers them between processes.

Files of tools have up to a million shapes. Each is kept as the JSON that a child's answer needs anyway, and is converted to an
object only while it is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import orjson
from typing_extensions import override

from pelagos_pipelines.annotations.shapes import Kind, Shape

_PIECE = 1 << 20
_FAST = 1
"""Compression level of zlib: it has to save the child's memory, not every byte."""


class Shapes(Sequence[Shape]):
    """An append-only list of shapes. ``labels`` are its classes in order of first appearance."""

    __slots__ = ("_content", "_count", "labels")

    def __init__(self, shapes: Iterable[Shape] = ()) -> None:
        self._content = bytearray()
        self._count = 0
        self.labels: dict[str, None] = {}
        for shape in shapes:
            self.append(shape)

    def append(self, shape: Shape) -> None:
        """Add a shape. Raises ValueError when its texts are not Unicode."""
        document = shape.document()
        if shape.kind is Kind.MASK:  # masks have thousands of short runs, and "1" is shorter than "1.0"
            document["coordinates"] = list(map(int, shape.coordinates))
        try:
            self._content += orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError as error:  # a lone surrogate
            raise ValueError("a shape has text that is not Unicode") from error
        self._count += 1
        self.labels[shape.label] = None

    def extend(self, shapes: Iterable[Shape]) -> None:
        """Add several shapes."""
        for shape in shapes:
            self.append(shape)

    @override
    def __iter__(self) -> Iterator[Shape]:
        """Each shape as a new object."""
        start = 0
        while (end := self._content.find(b"\n", start)) >= 0:
            yield Shape.restored(orjson.loads(memoryview(self._content)[start:end].tobytes()))
            start = end + 1

    @overload
    def __getitem__(self, index: int) -> Shape: ...
    @overload
    def __getitem__(self, index: slice) -> list[Shape]: ...
    @override
    def __getitem__(self, index: int | slice) -> Shape | list[Shape]:
        """A shape or a slice. It parses all shapes: to use several, make a list once."""
        return list(self)[index]

    @override
    def __len__(self) -> int:
        """The number of shapes."""
        return self._count

    @override
    def __eq__(self, other: object) -> bool:
        """As a list of the same shapes."""
        return isinstance(other, Shapes | list | tuple) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @override
    def __repr__(self) -> str:
        """As a list of the same shapes."""
        return repr(list(self))

    def encoded(self) -> bytes:
        """The shapes as a JSON list."""
        return b"[%b]" % bytes(memoryview(self._content)[:-1]).replace(b"\n", b",")


class Written:
    """Compressed lines of JSON for another process."""

    def __init__(self) -> None:
        self._pressing = zlib.compressobj(_FAST)
        self._parts: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Add a line, without its line end."""
        self._parts += (self._pressing.compress(line), self._pressing.compress(b"\n"))

    def content(self) -> bytes:
        """The compressed content; no lines can be added after this call."""
        return b"".join((*self._parts, self._pressing.flush()))


def lines(content: bytes | bytearray | memoryview, limit: int) -> Iterator[bytes]:
    """Decompress the lines of ``Written``.

    Raises:
        ValueError: the content is invalid, or has more than ``limit`` bytes.
    """
    unpacking, rest, parts = zlib.decompressobj(), bytes(content), list[bytes]()
    while not unpacking.eof:
        try:
            piece = unpacking.decompress(rest, _PIECE)
        except zlib.error as error:
            raise ValueError("lines") from error
        rest = unpacking.unconsumed_tail
        limit -= len(piece)
        if limit < 0 or not (piece or rest or unpacking.eof):
            raise ValueError("lines")
        *ended, unfinished = piece.split(b"\n")
        for end in ended:
            yield b"".join((*parts, end))
            parts = []
        parts.append(unfinished)
