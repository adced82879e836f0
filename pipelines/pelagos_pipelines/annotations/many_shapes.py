"""Many shapes in a fifth of the memory that as many objects would take, and how they go from one process to another.

Files of tools hold a million of them. Each is kept as the JSON that the answer of a child is made of anyway, and is an object
only while somebody looks at it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import orjson

from pelagos_pipelines.annotations.shapes import Kind, Shape

_PIECE = 1 << 20
_FAST = 1
"""Of zlib's levels: what matters is the memory of the child, not the last byte."""


class Shapes(Sequence[Shape]):
    """A list that grows at its end. ``labels`` are the classes in it, in the order in which they came."""

    __slots__ = ("_content", "_count", "labels")

    def __init__(self, shapes: Iterable[Shape] = ()) -> None:
        self._content = bytearray()
        self._count = 0
        self.labels: dict[str, None] = {}
        for shape in shapes:
            self.append(shape)

    def append(self, shape: Shape) -> None:
        """Add one. ValueError when its texts are no Unicode."""
        document = shape.document()
        if shape.kind is Kind.MASK:  # runs of a pixel, by the thousand: "1" is half as long as "1.0"
            document["coordinates"] = list(map(int, shape.coordinates))
        try:
            self._content += orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError as error:  # half a character
            raise ValueError("a shape has text that is not Unicode") from error
        self._count += 1
        self.labels[shape.label] = None

    def extend(self, shapes: Iterable[Shape]) -> None:
        """Add several."""
        for shape in shapes:
            self.append(shape)

    def __iter__(self) -> Iterator[Shape]:
        """Each as an object, made anew."""
        start = 0
        while (end := self._content.find(b"\n", start)) >= 0:
            yield Shape.restored(orjson.loads(memoryview(self._content)[start:end].tobytes()))
            start = end + 1

    @overload
    def __getitem__(self, index: int) -> Shape: ...
    @overload
    def __getitem__(self, index: slice) -> list[Shape]: ...
    def __getitem__(self, index: int | slice) -> Shape | list[Shape]:
        """Slow: whoever wants more than one makes a list of them."""
        return list(self)[index]

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __eq__(self, other: object) -> bool:
        """As a list of the same shapes."""
        return isinstance(other, Shapes | list | tuple) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """As a list of the same shapes."""
        return repr(list(self))

    def encoded(self) -> bytes:
        """A list in JSON."""
        return b"[%b]" % bytes(memoryview(self._content)[:-1]).replace(b"\n", b",")


class Written:
    """Lines of JSON on their way to another process."""

    def __init__(self) -> None:
        self._pressing = zlib.compressobj(_FAST)
        self._parts: list[bytes] = []

    def add(self, line: bytes) -> None:
        """One more line, without its end."""
        self._parts += (self._pressing.compress(line), self._pressing.compress(b"\n"))

    def content(self) -> bytes:
        """All of them; no more can be added."""
        return b"".join((*self._parts, self._pressing.flush()))


def lines(content: bytes | bytearray | memoryview, limit: int) -> Iterator[bytes]:
    """The lines that were ``Written``.

    Raises:
        ValueError: they are none, or are more than ``limit`` bytes.
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
