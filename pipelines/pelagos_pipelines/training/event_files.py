"""Writes event files for TensorBoard: the figures of all epochs, and the results of an evaluation.

The content is a function of the training history alone, and a file is replaced as a whole. So a training that was killed and
continued leaves the same bytes as one that was not, with no epoch twice and none missing.

The format is TFRecord with the messages Event and Summary (tensorflow/core/util/event.proto and
tensorflow/core/framework/summary.proto of TensorFlow), of which few fields are needed. It is implemented here because the
libraries for it import cloud storage or torch, which takes 3 seconds of processor time in every step.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos_contract import disk

if TYPE_CHECKING:
    from pelagos_pipelines.training.training_history import Epoch

VERSION = b"brain.Event:2"
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
"""The first bytes of every PNG file; width and height follow."""
_RGB = 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of Protocol Buffers."""


def of_training(epochs: Iterable[Epoch]) -> bytes:
    """The content of a file with the metrics of every epoch, at the time when it ended; empty without epochs."""
    rows = list(epochs)
    if not rows:
        return b""
    events = [_event(rows[0].at, _field(3, VERSION))]
    events += [_event(row.at, _scalars(row.metrics), row.number) for row in rows]
    return b"".join(map(_record, events))


def of_evaluation(metrics: Mapping[str, float], figures: Iterable[Path], step: int, at: float) -> bytes:
    """The content of a file with metrics and pictures of the epoch ``step``, measured ``at`` (seconds since the Unix epoch).

    Pictures that are not PNG are left out.

    Raises:
        OSError: a picture cannot be read.
    """
    events = [_event(at, _field(3, VERSION)), _event(at, _scalars(metrics), step)]
    pictures = ((path.stem, path.read_bytes()) for path in figures)
    events += [_event(at, _picture(*each), step) for each in pictures if each[1].startswith(_PNG)]
    return b"".join(map(_record, events))


def write(path: Path, content: bytes) -> None:
    """Write the content to ``path``, unless it is empty or already there. Raises OSError."""
    if content and not (path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content):
        disk.write_atomically(path, content, parents=True)


def _event(at: float, content: bytes, step: int = 0) -> bytes:
    return _key(1, _FIXED64) + struct.pack("<d", at) + _key(2, _VARINT) + _varint(step) + content


def _scalars(metrics: Mapping[str, float]) -> bytes:
    """The summary field of an event, with scalars."""
    values = (
        _field(1, _field(1, name.encode()) + _key(2, _FIXED32) + struct.pack("<f", value))
        for name, value in sorted(metrics.items())
    )
    return _field(5, b"".join(values))


def _picture(name: str, content: bytes) -> bytes:
    """The summary field of an event, with a PNG picture as it is."""
    width, height = struct.unpack(">II", content[16:24])  # the two fields after ``_PNG``
    sides = _key(1, _VARINT) + _varint(height) + _key(2, _VARINT) + _varint(width) + _key(3, _VARINT) + _varint(_RGB)
    return _field(5, _field(1, _field(1, f"figures/{name}".encode()) + _field(4, sides + _field(4, content))))


def _field(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(content)) + content


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Protocol Buffers' varint: seven bits per byte, lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _record(content: bytes) -> bytes:
    """A TFRecord: length, checksum of the length, content, checksum of the content."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """CRC-32C, masked as in TFRecord, because the CRC of data that contains CRCs is weak."""
    import google_crc32c

    found: int = google_crc32c.value(content)
    return struct.pack("<I", ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF)
